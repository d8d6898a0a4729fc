package project_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/polluxhq/pollux/drivers"
	"github.com/polluxhq/pollux/drivers/project"
)

// A driver in Go whose manifest says "schemas": "types" has the schemas of its settings, commands and properties from its source; what the
// manifest says itself stays, and what contradicts the source is refused before anything is built.
func TestSchemasOfTheGoTypes(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "lamp")
	if _, err := project.New(dir, "lamp", project.Go); err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile(filepath.Join(dir, "main.go"))
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Replace(string(source), "`json:\"poll_s\"`", "`json:\"poll_s\" schema:\"minimum=1,default=30\"`", 1)
	text = strings.Replace(text, "	return d\n}", `	twin.Command(d, "dim", func(t *Twin, in struct {
		Percent uint8 "json:\"percent\" schema:\"maximum=100\""
	}) (string, error) {
		return "dimmed", nil
	})
	return d
}`, 1)
	manifest := `{"contract":"twin1","name":"lamp","version":"1.0.0","schemas":"types","capabilities":["send","state_get","state_set","schedule","log","setting"],
		"transport":{"scheme":"tcp","tokenizer":{"delimiter":"\n"}},"model":{"properties":{"power":{TYPE"title":"Power"}},"actions":{"dim":{"title":"Dim"}}}}`
	write := func(name, content string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("main.go", text)
	build := func() ([]byte, error) {
		p, err := project.Find(dir)
		if err != nil {
			t.Fatal(err)
		}
		return p.Build(t.Context())
	}
	write("driver.json", strings.Replace(manifest, "TYPE", `"type":"string",`, 1))
	if _, err := build(); err == nil || !strings.Contains(err.Error(), "/model/properties/power/type is string, and boolean in the driver's source") {
		t.Fatalf("another type than the source's: %v", err)
	}
	write("driver.json", strings.Replace(manifest, "TYPE", "", 1))
	file, err := build()
	if err != nil {
		t.Fatal(err)
	}
	m, err := drivers.Check(file)
	if err != nil {
		t.Fatal(err)
	}
	model, err := drivers.NewModel(m)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := model.ValidateSettings([]byte(`{}`)); err != nil || string(got) != `{"poll_s":30}` {
		t.Errorf("the settings: %s, %v", got, err)
	}
	if _, err := model.ValidateSettings([]byte(`{"poll_s":0}`)); err == nil {
		t.Error("a setting below its minimum was taken")
	}
	for _, part := range []string{`"percent":{"maximum":100,"minimum":0,"type":"integer"}`, `"required":["percent"]`, `"output":{"type":"string"}`, `"title":"Dim"`,
		`"power":{"title":"Power","type":"boolean"}`} {
		if !strings.Contains(string(m.Model), part) {
			t.Errorf("the model lacks %s: %s", part, m.Model)
		}
	}
}
