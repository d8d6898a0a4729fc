package sink

import (
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo/readpref"
	"go.mongodb.org/mongo-driver/v2/mongo/writeconcern"
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

// mongoDB puts documents into a collection, whose _id is the message's topic and offset: one that comes twice takes its own place.
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
	writes := make([]mongo.WriteModel, len(b.Messages))
	for i, msg := range b.Messages {
		s := saidOf(msg)
		id := fmt.Sprintf("%s/%016d", b.Topic, msg.Offset)
		doc := bson.D{{Key: "_id", Value: id}, {Key: "topic", Value: b.Topic}, {Key: "offset", Value: int64(msg.Offset)}, {Key: "time", Value: timeOf(msg)},
			{Key: "key", Value: msg.Key}, {Key: "id", Value: msg.Id}}
		if s.twin != "" {
			doc = append(doc, bson.E{Key: "twin", Value: s.twin}, bson.E{Key: "kind", Value: s.kind}, bson.E{Key: "name", Value: s.name})
			if x, ok := s.number(); ok {
				doc = append(doc, bson.E{Key: "number", Value: x})
			}
		}
		// The payload as a value that can be queried, where it is JSON, and as it came, where it is not.
		var value any
		if json.Unmarshal(msg.Payload, &value) == nil && shallow(value, mongoDepth) {
			doc = append(doc, bson.E{Key: "value", Value: value})
		} else {
			doc = append(doc, bson.E{Key: "payload", Value: msg.Payload})
		}
		writes[i] = mongo.NewReplaceOneModel().SetFilter(bson.D{{Key: "_id", Value: id}}).SetReplacement(doc).SetUpsert(true)
	}
	_, err := m.into.BulkWrite(ctx, writes, options.BulkWrite().SetOrdered(false))
	switch {
	case err == nil:
		return nil
	case refusedByMongo(err):
		return fmt.Errorf("mongodb: %w: %w", ErrRefused, err)
	}
	return fmt.Errorf("mongodb: %w", err)
}

// refusals are codes of errors that a document itself is to blame for: BadValue, FailedToParse, Overflow, DocumentValidationFailure,
// BSONObjectTooLarge (src/mongo/base/error_codes.yml), and 17280, a key too large for an index.
var refusals = []int{2, 9, 15, 121, 10334, 17280}

func refusedByMongo(err error) bool {
	var bulk mongo.BulkWriteException
	if errors.As(err, &bulk) {
		return slices.ContainsFunc(bulk.WriteErrors, func(e mongo.BulkWriteError) bool { return slices.Contains(refusals, e.Code) })
	}
	var command mongo.CommandError
	return errors.As(err, &command) && slices.Contains(refusals, int(command.Code))
}

// shallow says whether a value of JSON has at most so many levels.
func shallow(value any, levels int) bool {
	switch v := value.(type) {
	case map[string]any:
		for _, x := range v {
			if levels == 0 || !shallow(x, levels-1) {
				return false
			}
		}
	case []any:
		for _, x := range v {
			if levels == 0 || !shallow(x, levels-1) {
				return false
			}
		}
	}
	return true
}

// Close implements Target.
func (m *mongoDB) Close() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = m.client.Disconnect(ctx) // nothing is on its way
}
