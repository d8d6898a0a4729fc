package actors_test

import (
	"crypto/ed25519"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"maps"
	"math/big"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/reflect/protoreflect"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// notTold are the fields within records that a document does not say: what the server sets, and what is given once and not kept.
var notTold = []string{"revision", "state", "deleting", "create_time", "update_time", "update_by", "begin_time", "has_secret", "counts",
	"Twin.driver_digest", "Twin.driver_version", "Model.title", "Model.description", "Model.twins", "PutChannelRequest.start",
	// What is of a project does not name it, and a relation is its ends and type.
	"ProjectSettings.project", "Relation.id",
	// Of it the hash is kept, which is told.
	"WebhookTrigger.secret"}

// wholeAutomation are schedules and rules, each kind of timing, trigger and action among them.
const wholeAutomation = `{"schedule":{"id":"first","timing":{"calendar":{"times":["07:00:30"],"weekdays":["1:mon"],"days":[1,2,-30],"months":[6,12],"except":["12-24..01-01"]}},"windows":[{"from":"22:00","to":"06:00","weekdays":["sun"],"notBefore":"2020-01-01T00:00:00.5Z"}],"actions":[{"stop":true,"if":"1 != 2"}]}}
{"schedule":{"id":"pulse","timing":{"every":{"period":"0.1s","from":"2020-01-01T00:00:00.1Z"}},"paused":true,"actions":[{"wait":"0s"}]}}
{"schedule":{"id":"dusk","timing":{"sun":{"set":true,"offset":"-1800.5s","place":{"latitude":0,"longitude":0}}},"actions":[{"call":{"to":{"twin":"m1"},"action":"a"}}]}}
{"schedule":{"id":"dawn","timing":{"sun":{"twinId":"m1"}},"actions":[{"call":{"to":{"twin":"m1"},"action":"a"}}]}}
{"schedule":{"id":"noon","timing":{"sun":{"zoneId":"hq"}},"actions":[{"call":{"to":{"twin":"m1"},"action":"a"}}]}}
{"rule":{"id":"much","when":[{"event":{"of":{"zone":"hq","labels":{"a":"TEXT"}},"names":["TEXT"]}},{"absent":{"of":{"system":"room"},"property":"power","since":"1s"}},{"command":{"of":{"driver":"probe"},"names":["TEXT"]}},{"node":{}},{"schedule":{"at":"2020-01-01T00:00:00Z"}}],"if":"true","until":"value < 1.0","settle":"0.5s","oncePer":"1s","repeat":"1s","each":true,"limit":60000,"paused":true,"windows":[{"from":"00:00","to":"01:00"}],"zone":"Europe/Berlin","then":[{"call":{"to":{"zone":"hq","interface":"Powerable","model":"meter","labels":{"a":"TEXT"}},"action":"a","input":[null,"TEXT",{"a":1.5}],"timeout":"0.5s","priority":100},"retry":{"attempts":1,"initial":"0s","maximum":"1s","on":["RETRY_ON_BUSY","RETRY_ON_ANY"]},"goOn":true},{"call":{"to":{"twin":"m1"},"action":"a","inputExpr":"value"}},{"parallel":{"actions":[{"set":{"property":"p","expr":"value * 2.0","priority":1}},{"publish":{"topic":"changes","key":"TEXT","payload":{"a":null}}},{"publish":{"topic":"changes","expr":"value"}}]}},{"mqtt":{"topic":"a/${twin.name}","payload":"TEXT","qos":2,"retain":true}},{"raise":{"alarm":"a","severity":"ALARM_SEVERITY_INFO"}},{"clear":{"alarm":"a"}},{"logic":{"logic":"filter","message":{"a":"TEXT"}}},{"logic":{"logic":"filter","expr":"value"}},{"notify":{"notifier":"book","body":"TEXT","to":["TEXT"],"urgent":true,"attachments":[{"name":"TEXT","text":"TEXT"},{"name":"t","history":{"of":{"model":"meter"},"properties":["power"],"since":"1s","step":"1s","aggregate":"max","format":"TABLE_FORMAT_HTML","zone":"Europe/Berlin"}}]}}]}}
{"rule":{"id":"few","when":[{"property":{"of":{"interface":"Powerable"}}}],"atLeast":2,"together":true,"then":[{"call":{"to":{"twin":"m1"},"action":"a"}}]}}
`

// wholeNotifiers are notifiers of each kind.
const wholeNotifiers = `{"notifier":{"id":"mail","mail":{"host":"127.0.0.1","port":1,"security":"MAIL_SECURITY_STARTTLS","user":"TEXT","from":"a@b","to":["c@d"],"ca":"CERTIFICATE"},"secret":"TEXT","paused":true,"attachments":[{"name":"n","text":"TEXT"}],"retryMin":"0.001s","retryMax":"86400s","giveUp":"1s","limit":1,"limitPer":"1s","quiet":[{"from":"22:00","to":"06:00"}],"zone":"Europe/Berlin","keep":1}}
{"notifier":{"id":"phone","sms":{"twilio":{"account":"TEXT","from":"TEXT","url":"http://127.0.0.1:1/"},"to":["+49"]},"secret":"TEXT","paused":true}}
{"notifier":{"id":"form","sms":{"form":{"url":"http://127.0.0.1:1/","fields":{"a":"${body}"},"user":"TEXT","headers":{"X-A":"b"}},"to":["+49"]},"paused":true}}
{"notifier":{"id":"chat","webhook":{"preset":"WEBHOOK_PRESET_NTFY","url":"http://127.0.0.1:1/","headers":{"X-A":"b"},"to":["a"]},"paused":true}}
{"notifier":{"id":"broker","mqtt":{"topic":"a/b","qos":2,"retain":true}}}
{"notifier":{"id":"own","logic":{"logic":"filter","to":["TEXT"],"keyed":true}}}`

// fieldsOf gives every field that messages of a kind can have, at any depth, as MESSAGE.FIELD.
func fieldsOf(d protoreflect.MessageDescriptor, into map[string]bool) {
	for i := range d.Fields().Len() {
		f := d.Fields().Get(i)
		name := string(d.Name()) + "." + string(f.Name())
		if into[name] || slices.Contains(notTold, string(f.Name())) || slices.Contains(notTold, name) {
			continue
		}
		if !d.IsMapEntry() {
			into[name] = true
		}
		if m := f.Message(); m != nil && strings.HasPrefix(string(m.FullName()), "pollux.") {
			fieldsOf(m, into)
		}
	}
}

// takeFields removes those that a message has, at any depth.
func takeFields(m protoreflect.Message, from map[string]bool) {
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		delete(from, string(m.Descriptor().Name())+"."+string(f.Name()))
		switch {
		case f.Message() == nil || f.IsMap():
		case f.IsList():
			for i := range v.List().Len() {
				takeFields(v.List().Get(i).Message(), from)
			}
		default:
			takeFields(v.Message(), from)
		}
		return true
	})
}

// wholeLines are the records of wholeProject, a line of JSON each.
func wholeLines(t *testing.T) []string {
	t.Helper()
	quoted, err := json.Marshal(odd)
	if err != nil {
		t.Fatal(err)
	}
	ca, err := json.Marshal(certificate(t))
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.NewReplacer("TEXT", string(quoted[1:len(quoted)-1]), "CERTIFICATE", string(ca[1:len(ca)-1])).Replace(wholeProject), "\n")
}

// certificate gives one that vouches for nobody, PEM.
func certificate(t *testing.T) string {
	t.Helper()
	public, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	conf := &x509.Certificate{SerialNumber: big.NewInt(1)}
	der, err := x509.CreateCertificate(nil, conf, conf, public, key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

// without gives the fields that none of the records has, of those that there are.
func without(t *testing.T, lines []string) []string {
	t.Helper()
	left := map[string]bool{}
	fieldsOf((&pb.ConfigRecord{}).ProtoReflect().Descriptor(), left)
	if len(left) < 200 {
		t.Fatalf("only %d fields are known", len(left))
	}
	for _, rec := range configs(t, lines...) {
		takeFields(rec.ProtoReflect(), left)
	}
	return slices.Sorted(maps.Keys(left))
}
