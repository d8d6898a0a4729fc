package rpc

import (
	"errors"
	"strings"

	"buf.build/go/protovalidate"
	"google.golang.org/protobuf/proto"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// fastValid says that a message of the two procedures called most certainly satisfies its rules, so that the validator
// need not run. It only ever says yes where the rules do; TestFastValidAgrees holds it to that.
func fastValid(m proto.Message) bool {
	switch m := m.(type) {
	case *pb.InvokeRequest:
		return m.Options == nil && short(m.Id, 260) && short(m.Action, 128) && len(m.IdempotencyKey) <= 128
	case *pb.SetDesiredRequest:
		return m.Options == nil && m.ValidFor == nil && m.Value != nil && short(m.Id, 260) && short(m.Property, 128)
	}
	return false
}

// short counts bytes, which are no fewer than the characters that the rules count.
func short(s string, limit int) bool { return s != "" && len(s) <= limit }

// validationError names the first field that breaks a rule, and how many do.
func validationError(err error) error {
	var v *protovalidate.ValidationError
	if !errors.As(err, &v) || len(v.Violations) == 0 {
		return err
	}
	first := v.Violations[0].Proto
	text := first.GetMessage()
	if text == "" {
		text = "breaks the rule " + first.GetRuleId()
	}
	path := protovalidate.FieldPathString(first.GetField())
	// Some messages name the field themselves.
	text = strings.TrimPrefix(text, path+": ")
	return invalid(path, text)
}
