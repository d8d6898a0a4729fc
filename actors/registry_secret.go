package actors

import (
	"context"
	"fmt"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// secretField is the field of a record's one secret.
const secretField = "secret"

// reaching is a record with a secret for another system.
type reaching interface {
	GetId() string
	GetSecret() string
}

// keepSecret seals the secret of a record, or keeps the sealed one of the record as it was, where none is given, or "***", or the same. A secret is
// not sent to another host than it was given for: there says that it is the same one.
func (r *Registry) keepSecret(ctx context.Context, kind string, m reaching, secret *string, old reaching, there bool) (err error) {
	place := kind + "/" + m.GetId() + "/" + secretField
	switch given, was := *secret, old.GetSecret(); {
	case isSealed(given):
		return invalid("/"+kind+"/secret", "a value may not begin with %q", sealedPrefix)
	case given != "" && given != secretMask:
		if plain, err := r.e.secretAt(place, was); err == nil && plain == given {
			*secret = was
			return nil
		}
		if *secret, err = r.e.sealer.seal(ctx, place, given); err != nil {
			return fmt.Errorf("%s %s: %w", kind, m.GetId(), err)
		}
	case was != "" && !there:
		return invalid("/"+kind+"/secret", "is not sent to another host than it was given for: give it again, or remove it")
	case was == "" && given != "":
		return invalid("/"+kind+"/secret", "is \"***\", and there is none to keep: give it")
	default:
		*secret = was
	}
	return nil
}

// dropSecret has a record keep no secret of the record as it was.
func dropSecret(m reaching, was *string) error {
	if m.GetSecret() != "" {
		return invalid("/remove_secret", "is true, and there is a secret, too")
	}
	*was = ""
	return nil
}

// maskSecret hides a record's secret, if it has one.
func maskSecret(m proto.Message) {
	x := m.ProtoReflect()
	f := x.Descriptor().Fields().ByName(secretField)
	if x.Get(f).String() != "" {
		x.Set(f, protoreflect.ValueOfString(secretMask))
	}
}

// masked is a secret, JSON, as it may be shown.
func masked(text string) string {
	if text == "" {
		return ""
	}
	return `"` + secretMask + `"`
}
