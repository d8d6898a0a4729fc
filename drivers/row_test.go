package drivers_test

import (
	"errors"
	"testing"

	"github.com/polluxhq/pollux/drivers"
	"github.com/polluxhq/pollux/wasm"
)

// TestRow: calls in a row are calls like others: one tenant's instance is not another's, and one that crashed is not used again.
func TestRow(t *testing.T) {
	_, r := script(t)
	row := r.(drivers.Rower).Row()
	defer row.Release()
	act := func(tenant, action string) (string, error) {
		call := command(action, "null")
		call.Tenant = tenant
		e, err := row.Handle(t.Context(), call, &scriptHost{})
		return string(e.Output), err
	}
	// keep counts in the instance.
	for i, c := range []struct{ tenant, want string }{{"a", "1"}, {"a", "2"}, {"b", "1"}, {"a", "3"}, {"a", "4"}} {
		if got, err := act(c.tenant, "keep"); err != nil || got != c.want {
			t.Errorf("call %d: %s, %v; want %s", i, got, err, c.want)
		}
	}
	var refusal *drivers.DriverError
	if _, err := act("a", "refuse"); !errors.As(err, &refusal) || refusal.Code != 7 {
		t.Errorf("a refusal: %v", err)
	}
	if got, err := act("a", "keep"); err != nil || got != "5" {
		t.Errorf("after a refusal: %s, %v", got, err)
	}
	var trap *wasm.Trap
	if _, err := act("a", "eat"); !errors.As(err, &trap) {
		t.Errorf("a crash: %v", err)
	}
	if got, err := act("a", "keep"); err != nil || got != "1" {
		t.Errorf("after a crash: %s, %v", got, err)
	}
	row.Release()
	if got, err := act("a", "keep"); err != nil || got != "2" {
		t.Errorf("after it was released: %s, %v", got, err)
	}
}
