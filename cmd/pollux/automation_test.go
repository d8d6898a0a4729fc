package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const hallThing = `{"@context":["https://www.w3.org/2022/wot/td/v1.1",{"pollux":"https://pollux.dev/ns#"}],"@type":"tm:ThingModel","title":"Hall",
	"properties":{"temperature":{"type":"number"},"fan":{"type":"boolean","pollux:virtual":true}}}`

// TestAutomationCommands has the command line do what somebody new does with rules, schedules, alarms and notifiers.
func TestAutomationCommands(t *testing.T) {
	env := []string{"POLLUX_DATA=" + dataOfNode(t)}
	file := filepath.Join(t.TempDir(), "hall.json")
	if err := os.WriteFile(file, []byte(hallThing), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		code      int
		out, errs string
		line      string
	}{
		{0, "auto", "", "project create auto"},
		{0, "created", "", "model create auto/hall --file " + file},
		{0, "created", "", "twin create auto/hall1 --model hall"},
		{0, "is there", "", "zone create auto/hq"},

		{1, "", "did you mean value?", "rule put auto/hot --on hall1.temperature --if valu>28.0 --set hall1.fan=on"},
		{0, "auto/hall1 has no property temprature; did you mean temperature?", "", "rule put auto/hot --on hall1.temprature --set x.fan=on"},
		{0, "is there", "", "rule put auto/hot --on hall1.temperature --if value>28.0 --until value<26.0 --set hall1.fan=on --else-set .fan=off --raise hot --alarm-text ${value} --severity error"},
		{0, `"value": true`, "", "rule get auto/hot -o json"},
		{0, "set fan = true on auto/hall1", "", "rule test auto/hot --twin auto/hall1 --value temperature=31"},
		{0, "does not hold", "", "rule test auto/hot --twin auto/hall1 --value temperature=20"},
		{0, "evaluations  0", "", "rule why auto/hot"},
		{0, "stored", "", `ingest send auto/hall1 {"temperature":27}`},
		{0, "value=27", "", "rule why auto/hot"},
		{0, "auto/hot", "", "rule list --project auto"},
		{0, "rests", "", "rule pause auto/hot"},
		{0, "is evaluated again", "", "rule resume auto/hot"},

		{2, "", "say when by one of", "schedule put auto/off --set hall1.fan=off"},
		{0, "is there", "", "schedule put auto/off --daily 22:30 --zone Europe/Berlin --set hall1.fan=off"},
		{0, "is there", "", "schedule put auto/other --every 15m --mqtt a=b"},
		{0, "there is no twin auto/nobody", "", "schedule put auto/lost --daily 07:00 --call nobody.go"},
		{0, "22:30:00 CE", "", "schedule next auto/off --count 3"},
		{0, "auto/off", "", "schedule list --project auto"},
		{0, "22:30", "", "schedule calendar auto/off --days 2 --zone Europe/Berlin"},
		{0, "auto/off", "", "schedule cancel auto/hall1"},
		{0, "no schedule names", "", "schedule cancel auto/hall1"},
		{0, "auto/other", "", "schedule list --project auto"},

		{0, "active, not acknowledged", "", "alarm raise auto/leak water --severity critical --twin auto/hall1"},
		{0, "auto/leak", "", "alarm list"},
		{0, "critical          1", "", "alarm count --project auto"},
		{0, "acknowledged by", "", "alarm ack auto/leak --note seen"},
		{0, "auto/leak", "", "alarm assign auto/leak --to kim"},
		{0, "to kim", "", "alarm get auto/leak"},
		{2, "", "want a time", "alarm shelve auto/leak --for 0s"},
		{0, "shelved until", "", "alarm shelve auto/leak --for 8h"},
		{0, "active, acknowledged", "", "alarm unshelve auto/leak"},
		{0, "cleared", "", "alarm clear auto/leak"},
		{0, "auto/leak", "", "alarm stats --by alarm"},

		{2, "", "there is nothing in it", "notifier create auto/hook --webhook https://desk.example.com/in --secret-file " + os.DevNull},
		{0, "auto/moved", "", "notifier create auto/moved --webhook https://desk.example.com/in --header Lane=left --to hall"},
		{0, "", "", "notifier update auto/moved --webhook https://desk.example.com/v2"}, // what no flag names stays
		{0, `"https://desk.example.com/v2"`, "", "notifier get auto/moved -o json"},
		{0, `"Lane": "left"`, "", "notifier get auto/moved -o json"},
		{0, `"hall"`, "", "notifier get auto/moved -o json"},
		{0, "removed", "", "notifier rm auto/moved"},
		{0, "auto/desk", "", "notifier create auto/desk --log"},
		{0, "sent", "", "notifier test auto/desk"},
		{0, "", "", "notifier send auto/desk --subject Lift --body out --key k1"},
		{0, "Lift", "", "notifier outbox auto/desk"},

		{0, "removed", "", "notifier rm auto/desk"},
		{0, "removed", "", "alarm rm auto/leak"},
		{0, "removed", "", "schedule rm auto/other"},
		{0, "removed", "", "schedule rm auto/lost"},
		{0, "removed", "", "rule rm auto/hot"},
		{0, "removed", "", "twin rm auto/hall1"},
		{0, "removed", "", "model rm auto/hall"},
		{0, "removed", "", "zone rm auto/hq"},
	} {
		r := cli(context.Background(), env, strings.Fields(c.line)...)
		if r.code != c.code || !strings.Contains(r.out, c.out) || !strings.Contains(r.err, c.errs) {
			t.Errorf("pollux %s: exit code %d\n%s%s", c.line, r.code, r.out, r.err)
		}
	}
}
