package rpc_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	rpcv1 "github.com/polluxhq/pollux/proto/pollux/v1/polluxv1connect"
)

// TestForeignRollouts: a driver is everybody's, and so are its rollouts; which twins of another project have it, and what they fail at, is not told.
func TestForeignRollouts(t *testing.T) {
	f := openForeign(t, 0)
	word, name := f.secrets[0], fresh("rolled")
	upload := func(version string, stage bool) {
		t.Helper()
		file := fmt.Sprintf(`export default driver({ name: '%s', version: '%s', actions: { fail: { input: { text: 'string' }, run(twin, { text }) { throw new Error(text); } } } });`, name, version)
		if _, err := rpcv1.NewDriverServiceClient(f.http(f.admin), f.url).UploadDriver(t.Context(), req(&pb.UploadDriverRequest{File: []byte(file), Stage: stage})); err != nil {
			t.Fatal(err)
		}
	}
	upload("1.0.0", false)
	for _, id := range []string{f.vault + "/" + word + name, f.hall + "/" + name} {
		f.must("TwinService/CreateTwin", fmt.Sprintf(`{"twin":{"id":%q,"driver":%q}}`, id, name))
	}
	upload("1.1.0", true)
	f.must("DriverService/StartRollout", fmt.Sprintf(`{"driver":"%s","version":"1.1.0","selector":{"zone":"%s/%s-zone","ids":["%[2]s/%[3]s%[1]s","%[4]s/%[1]s"]},"limits":{"maxTraps":1,"maxFailures":1}}`, name, f.vault, word, f.hall))
	lists := []string{"DriverService/ListRollouts", "DriverService/GetRollout"}
	for end := time.Now().Add(patience); !strings.Contains(f.must(lists[1], fmt.Sprintf(`{"driver":%q}`, name)), word+name+": "); time.Sleep(10 * time.Millisecond) {
		// What fails before the rollout has begun to count is not told.
		f.call(t, f.admin, "/pollux.v1.TwinService/Invoke", fmt.Sprintf(`{"id":"%s/%s%s","action":"fail","input":{"text":%[2]q}}`, f.vault, word, name))
		if time.Now().After(end) {
			t.Fatal("the failure is not counted: ", f.must(lists[1], fmt.Sprintf(`{"driver":%q}`, name)))
		}
	}
	for who, key := range f.keys {
		for _, list := range lists {
			status, body := f.call(t, key, "/pollux.v1."+list, fmt.Sprintf(`{"driver":%q}`, name))
			if s := f.tells([]byte(body)); s != "" || status != 200 || !strings.Contains(body, f.hall+"/"+name) {
				t.Errorf("%s by %s: %s", list, who, body)
			}
		}
	}
}
