package main

import (
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// A list can say all that there is of its records: a line takes the place of one that is there, and what no column can say would be lost by it.
func TestListsHaveEveryField(t *testing.T) {
	for name, text := range map[string]string{
		"twins": "id,driver,model,uri,zone,via,system,selector,stopped,labels.a,settings.b,derived.c,aliases,reads\n" +
			"t,echo,meter,tcp://h:1,hq,gw,room,gpu,yes,x,1,1.0,n:k:v;n:k:w,changes=c;more\n",
		"zones":   "id,parent,kind,title,place\naula,hq,room,Great hall,\"52.5,13.4\"\n",
		"systems": "id,title,zone,members\nroom,Room,hq,A=m1;B=m2\n",
	} {
		k := importKinds[slices.IndexFunc(importKinds, func(k listKind) bool { return k.name == name })]
		next, err := openList(strings.NewReader(text), name+".csv", k)
		if err != nil {
			t.Fatal(err)
		}
		item, err := next()
		if err != nil {
			t.Fatal(err)
		}
		rec, err := item.record(k)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		rec.ProtoReflect().Range(func(_ protoreflect.FieldDescriptor, v protoreflect.Value) bool {
			fields := v.Message().Descriptor().Fields()
			for i := range fields.Len() {
				if f := fields.Get(i); !v.Message().Has(f) && (f.Name() == "id" || !slices.Contains(notSet, string(f.Name()))) {
					t.Errorf("a list of %s has no column of %s", name, f.Name())
				}
			}
			return true
		})
	}
	bad := "id,place\naula,here\n"
	next, err := openList(strings.NewReader(bad), "zones.csv", importKinds[1])
	if err != nil {
		t.Fatal(err)
	}
	item, err := next()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := item.record(importKinds[1]); err == nil || !strings.Contains(err.Error(), `place: "here": want LATITUDE,LONGITUDE`) {
		t.Error(err)
	}
}
