package sink

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo/readpref"
	"go.mongodb.org/mongo-driver/v2/mongo/writeconcern"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

var mongoCollection = regexp.MustCompile(`^/([A-Za-z0-9_-]{1,63})/([A-Za-z_][A-Za-z0-9_.-]{0,119})$`)

func checkMongo(u *place) error {
	if err := checkHost(u); err != nil {
		return err
	}
	if !mongoCollection.MatchString(u.Path) {
		return wrong("want mongodb://HOST:27017/DATABASE/COLLECTION")
	}
	_, err := u.yes("tls", false)
	return err
}

// mongoDB puts documents into a collection, whose _id is the message's topic, its offset and when it was published: one that comes twice is
// there once, and one whose offset is given again, as after an older backup was put back, is another one.
type mongoDB struct {
	client *mongo.Client
	into   *mongo.Collection
}

const (
	// mongoWait bounds how long a server is looked for, and a connection made.
	mongoWait = 5 * time.Second
	// mongoDepth is how deep arrays and objects of a payload may be; MongoDB takes 100 levels.
	mongoDepth = 90
)

func openMongo(ctx context.Context, u *place, _ *Options, _ string) (Target, error) {
	names := mongoCollection.FindStringSubmatch(u.Path)
	secure, err := u.yes("tls", false)
	if err != nil {
		return nil, err
	}
	scheme := "mongodb://"
	if u.Scheme == "mongodb+srv" {
		scheme = "mongodb+srv://"
	}
	o := options.Client().ApplyURI(scheme + u.Host + "/").SetAppName("pollux").SetServerSelectionTimeout(mongoWait).SetConnectTimeout(mongoWait).
		SetMaxPoolSize(2).SetWriteConcern(writeconcern.Majority())
	if set := u.Query().Get("replica_set"); set != "" {
		o.SetReplicaSet(set)
	}
	if user := u.Query().Get("user"); user != "" {
		o.SetAuth(options.Credential{Username: user, Password: u.secret, PasswordSet: true, AuthSource: cmp.Or(u.Query().Get("auth_source"), "admin"),
			AuthMechanism: u.Query().Get("mechanism")})
	}
	if secure {
		o.SetTLSConfig(&tls.Config{MinVersion: tls.VersionTLS12})
	}
	client, err := mongo.Connect(o)
	if err != nil {
		return nil, fmt.Errorf("mongodb: %w", err)
	}
	m := &mongoDB{client: client, into: client.Database(names[1]).Collection(names[2])}
	if err := client.Ping(ctx, readpref.Primary()); err != nil {
		m.Close()
		return nil, fmt.Errorf("mongodb: %w", err)
	}
	return m, nil
}

// Deliver implements Target.
func (m *mongoDB) Deliver(ctx context.Context, b *Batch) error {
	docs := make([]bson.Raw, len(b.Messages))
	for i, msg := range b.Messages {
		var err error
		if docs[i], err = documentOf(b.Topic, msg); err != nil {
			return fmt.Errorf("mongodb: %w: %w", ErrRefused, err)
		}
	}
	_, err := m.into.InsertMany(ctx, docs, options.InsertMany().SetOrdered(false))
	if there := duplicatesOf(err); len(there) > 0 {
		ids := make(bson.A, len(there))
		for i, at := range there {
			ids[i] = docs[at].Lookup("_id")
		}
		err = m.known(ctx, ids)
	}
	switch {
	case err == nil:
		return nil
	case refusedByMongo(err):
		return fmt.Errorf("mongodb: %w: %w", ErrRefused, err)
	}
	return fmt.Errorf("mongodb: %w", err)
}

// documentOf is a message as a document; the same whenever it is made.
func documentOf(topic string, msg *pb.TopicMessage) (bson.Raw, error) {
	s := saidOf(msg)
	id := fmt.Sprintf("%s/%016d/%d", topic, msg.Offset, msg.PublishTime.AsTime().UnixMilli())
	doc := bson.D{{Key: "_id", Value: id}, {Key: "topic", Value: topic}, {Key: "offset", Value: int64(msg.Offset)},
		{Key: "time", Value: timeOf(msg)}, {Key: "key", Value: msg.Key}, {Key: "id", Value: msg.Id}}
	if s.twin != "" {
		doc = append(doc, bson.E{Key: "twin", Value: s.twin}, bson.E{Key: "kind", Value: s.kind}, bson.E{Key: "name", Value: s.name})
		if x, ok := s.number(); ok {
			doc = append(doc, bson.E{Key: "number", Value: x})
		}
	}
	// The payload as a value that can be queried, where it is JSON, and as it came, where it is not.
	if json.Valid(msg.Payload) && utf8.Valid(msg.Payload) {
		var value any
		d := json.NewDecoder(bytes.NewReader(msg.Payload))
		d.UseNumber()
		if err := d.Decode(&value); err == nil {
			if value, ok := inOrder(value, mongoDepth); ok {
				return bson.Marshal(append(doc, bson.E{Key: "value", Value: value}))
			}
		}
	}
	return bson.Marshal(append(doc, bson.E{Key: "payload", Value: msg.Payload}))
}

const duplicateKey = 11000

// duplicatesOf gives which documents were not inserted, if that is because there are some with what is to be unique and for no other reason.
func duplicatesOf(err error) (there []int) {
	var bulk mongo.BulkWriteException
	if !errors.As(err, &bulk) || bulk.WriteConcernError != nil {
		return nil
	}
	for _, e := range bulk.WriteErrors {
		if e.Code != duplicateKey {
			return nil
		}
		there = append(there, e.Index)
	}
	return there
}

// known says whether there are documents with all of the ids: they came before. Where there is none with one of them, the collection has an index of
// its own that does not take that one.
func (m *mongoDB) known(ctx context.Context, ids bson.A) error {
	n, err := m.into.CountDocuments(ctx, bson.D{{Key: "_id", Value: bson.D{{Key: "$in", Value: ids}}}})
	if err == nil && n < int64(len(ids)) {
		err = fmt.Errorf("%w: an index of the collection has what is to be unique already", ErrRefused)
	}
	return err
}

// refusals are codes of errors that a document itself is to blame for: BadValue, FailedToParse, Overflow, DocumentValidationFailure,
// BSONObjectTooLarge (src/mongo/base/error_codes.yml), and 17280, a key too large for an index.
var refusals = []int{2, 9, 15, 121, 10334, 17280}

func refusedByMongo(err error) bool {
	if errors.Is(err, ErrRefused) {
		return true
	}
	var bulk mongo.BulkWriteException
	if errors.As(err, &bulk) {
		return slices.ContainsFunc(bulk.WriteErrors, func(e mongo.BulkWriteError) bool { return slices.Contains(refusals, e.Code) })
	}
	var command mongo.CommandError
	return errors.As(err, &command) && slices.Contains(refusals, int(command.Code))
}

// numberOf is a number of JSON as MongoDB has it: a double, or an int64 where a double has not all of its digits; not ok: nor has that.
func numberOf(n json.Number) (any, bool) {
	if whole, err := n.Int64(); err == nil && (whole > 1<<53 || whole < -1<<53) {
		return whole, true
	}
	x, err := n.Float64()
	if err != nil || !strings.ContainsAny(n.String(), ".eE") && strconv.FormatFloat(x, 'f', -1, 64) != n.String() {
		return nil, false
	}
	return x, true
}

// inOrder is a value of JSON with the fields of its objects by their names; not ok: it has more than so many levels, or a number that does not fit.
func inOrder(value any, levels int) (any, bool) {
	switch v := value.(type) {
	case map[string]any:
		doc := make(bson.D, 0, len(v))
		for _, name := range slices.Sorted(maps.Keys(v)) {
			x, ok := inOrder(v[name], levels-1)
			if levels == 0 || !ok {
				return nil, false
			}
			doc = append(doc, bson.E{Key: name, Value: x})
		}
		return doc, true
	case []any:
		all := make(bson.A, len(v))
		for i := range v {
			x, ok := inOrder(v[i], levels-1)
			if levels == 0 || !ok {
				return nil, false
			}
			all[i] = x
		}
		return all, true
	case json.Number:
		return numberOf(v)
	}
	return value, true
}

// Close implements Target.
func (m *mongoDB) Close() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = m.client.Disconnect(ctx) // nothing is on its way
}
