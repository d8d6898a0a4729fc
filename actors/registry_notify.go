package actors

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/polluxhq/pollux/actors/automation"
	"github.com/polluxhq/pollux/actors/notify"
	"github.com/polluxhq/pollux/actors/topic"
	"github.com/polluxhq/pollux/cluster"
	"github.com/polluxhq/pollux/drivers"
	actorv1 "github.com/polluxhq/pollux/proto/pollux/actor/v1"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/storage"
)

// maxNotifiers of a project. Each has a goroutine.
const maxNotifiers = 100

// newNotifiers makes the host of the engine's notifiers.
func newNotifiers(e *Engine) (*notify.Host, error) {
	return notify.New(notify.Options{Store: e.store, Topics: e.streams, Owned: func(s cluster.Slot) *cluster.Ownership { return e.owned[s].Load() },
		LeaseValid: func() bool { return e.cluster.LeaseValid() },
		Secret:     func(m *pb.Notifier) (string, error) { return e.secretAt(notifierSecret(m.Id), m.Secret) },
		Selected:   e.world.Selected,
		Series: func(ctx context.Context, q *pb.QuerySeriesRequest) (*pb.QuerySeriesResponse, error) {
			if f := e.series.Load(); f != nil {
				return (*f)(ctx, q)
			}
			return nil, fmt.Errorf("this node has no history yet: %w", cluster.ErrUnavailable)
		},
		Ask: e.askToTell, Publish: e.world.MQTT, Now: e.now, Node: e.o.Node, Logger: e.o.Logger, Metrics: e.o.Metrics})
}

// askToTell gives a notifier's message to the run of its logic.
func (e *Engine) askToTell(ctx context.Context, a *notify.Asked) (notify.Answered, error) {
	m := &judged{message: a.Message, twin: a.Twin, by: a.By, at: a.Time.UnixMilli(), id: a.ID}
	err := e.RunLogic(ctx, a.Logic, m)
	if refusal, ok := errors.AsType[*drivers.DriverError](err); ok {
		return notify.Answered{Refusal: err.Error(), Again: refusal.Retryable, After: refusal.After}, nil
	}
	return notify.Answered{Stop: m.verdict == pb.Verdict_VERDICT_STOP, Output: m.out}, err
}

// Notify implements automation.World, and is the way for all else that tells somebody: the message is in the outbox of its notifier
// when it returns, once where its id says that it is the same. m.Notifier must be complete.
func (w *world) Notify(ctx context.Context, m *pb.Notification) error {
	_, err := w.e.notifiers.Send(ctx, m)
	if errors.Is(err, notify.ErrNotFound) || errors.Is(err, topic.ErrTooLarge) {
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return err
}

func notifierSecret(id string) string { return "notifier/" + id + "/secret" }

// wholeNotifier completes and checks a notifier whose id is complete. Its secret may be one that is kept.
func (r *Registry) wholeNotifier(m *pb.Notifier) (*pb.Notifier, error) {
	old, err := get(r.store, notify.TableNotifiers, m.Id, &pb.Notifier{})
	if err != nil && !errors.Is(err, ErrNotFound) {
		return nil, err
	}
	m.State, m.HasSecret = nil, false
	if x := m.GetLogic(); x != nil {
		if err := r.logicThere(ProjectOf(m.Id), "/notifier/logic/logic", &x.Logic); err != nil {
			return nil, err
		}
	}
	for i, a := range m.Attachments {
		if err := wholeTable(ProjectOf(m.Id), fmt.Sprintf("/notifier/attachments/%d/history", i), a.GetHistory()); err != nil {
			return nil, err
		}
	}
	return m, at(r.e.notifiers.Check(m, m.Secret != "" || old.GetSecret() != ""))
}

// keepNotifierSecret seals a notifier's secret, or keeps the one that it has, as long as it goes to the same place.
func (r *Registry) keepNotifierSecret(ctx context.Context, m, old *pb.Notifier) error {
	return r.keepSecret(ctx, "notifier", m, &m.Secret, old, notify.Place(old) == notify.Place(m))
}

// notifierRefs writes the notifier's outbox with it.
func (r *Registry) notifierRefs(m *pb.Notifier) ([]storage.Guard, []storage.Write, error) {
	want := notify.Outbox(m)
	old, err := get(r.store, topic.TableTopics, want.Id, &pb.Topic{})
	if err != nil && !errors.Is(err, ErrNotFound) {
		return nil, nil, err
	}
	if old.GetDeleting() {
		return nil, nil, fmt.Errorf("outbox of notifier %s: %w", m.Id, topic.ErrDeleting)
	}
	if n, err := r.store.Count(notify.TableNotifiers, ProjectOf(m.Id)+"/"); err == nil && m.Revision == 0 && n >= maxNotifiers {
		return nil, nil, invalid("/notifier/id", "project %s has %d notifiers, which are as many as may be", ProjectOf(m.Id), n)
	}
	value, err := encode(want)
	if err != nil {
		return nil, nil, err
	}
	writes := []storage.Write{{Table: topic.TableTopics, Key: want.Id, Value: value}}
	if m.Revision == 0 {
		begin, err := r.notifierBegins(m.Id)
		if err != nil {
			return nil, nil, err
		}
		writes = append(writes, begin...)
	}
	return []storage.Guard{{Table: topic.TableTopics, Key: want.Id, Revision: old.GetRevision()}}, writes, nil
}

// notifierBegins has a new notifier begin where its outbox does: that goes on with the offsets of one of the same name before, whose messages are
// none that this one has missed.
func (r *Registry) notifierBegins(id string) ([]storage.Write, error) {
	tail, err := r.outboxTail(id)
	if err != nil || tail == nil {
		return nil, err
	}
	value, err := proto.Marshal(&pb.NotifierState{Position: tail.First})
	return []storage.Write{{Table: notify.TableStates, Key: id, Value: value, Quiet: true}}, err
}

// outboxTail gives how far the outbox of a notifier has come, or that of one before it; nil: there was none.
func (r *Registry) outboxTail(id string) (*actorv1.TopicRecord, error) {
	rec, ok, err := r.store.Get(topic.TableTails, notify.OutboxOf(id))
	if err != nil || !ok {
		return nil, err
	}
	tail := &actorv1.TopicRecord{}
	if err := proto.Unmarshal(rec.Value, tail); err != nil {
		return nil, fmt.Errorf("outbox of notifier %s: %w", id, err)
	}
	return tail, nil
}

// PutNotifier makes a notifier (revision 0) with its outbox, or replaces the one of the revision given.
func (r *Registry) PutNotifier(ctx context.Context, m *pb.Notifier) (*pb.Notifier, error) {
	return r.putNotifier(ctx, m, false)
}

func (r *Registry) putNotifier(ctx context.Context, m *pb.Notifier, removeSecret bool) (*pb.Notifier, error) {
	id, err := CanonicalID(m.GetId())
	if err != nil {
		return nil, err
	}
	m = proto.Clone(m).(*pb.Notifier)
	m.Id = id
	old, err := get(r.store, notify.TableNotifiers, id, &pb.Notifier{})
	if err != nil && !errors.Is(err, ErrNotFound) {
		return nil, err
	}
	if m, err = r.wholeNotifier(m); err != nil {
		return nil, err
	}
	if removeSecret {
		if err := dropSecret(m, &old.Secret); err != nil {
			return nil, err
		}
		if err := at(r.e.notifiers.Check(m, false)); err != nil {
			return nil, err
		}
	}
	if err := r.keepNotifierSecret(ctx, m, old); err != nil {
		return nil, err
	}
	m, err = put(ctx, r, "notifier", notify.TableNotifiers, id, m, func() ([]storage.Guard, []storage.Write, error) { return r.notifierRefs(m) })
	if err != nil {
		return nil, err
	}
	return shownNotifier(m), nil
}

// UpdateNotifier replaces a notifier of the revision given. What waits in its outbox stays. So does a secret that is not given, unless it is to be removed.
func (r *Registry) UpdateNotifier(ctx context.Context, m *pb.Notifier, removeSecret bool) (*pb.Notifier, error) {
	if _, err := r.notifier(m.GetId()); err != nil {
		return nil, err
	}
	if m.Revision == 0 {
		return nil, invalid("/notifier/revision", "is missing: read the notifier first")
	}
	return r.putNotifier(ctx, m, removeSecret)
}

// shownNotifier is a notifier without its secret.
func shownNotifier(m *pb.Notifier) *pb.Notifier {
	m.HasSecret = m.Secret != ""
	m.Secret = ""
	return m
}

// Notifier gives a notifier with how far it is.
func (r *Registry) Notifier(ctx context.Context, id string) (*pb.Notifier, error) {
	m, err := r.notifier(id)
	if err != nil {
		return nil, err
	}
	if m.State, err = r.e.notifiers.State(m.Id); err != nil {
		return nil, err
	}
	if m.State.Queued, err = r.e.notifiers.Queued(ctx, m.Id); err != nil {
		return nil, err
	}
	return shownNotifier(m), nil
}

func (r *Registry) notifier(id string) (*pb.Notifier, error) {
	id, err := CanonicalID(id)
	if err != nil {
		return nil, err
	}
	return get(r.store, notify.TableNotifiers, id, &pb.Notifier{})
}

// ListNotifiers gives a page of notifiers by id, with how far they are as this node has it, but for what waits.
func (r *Registry) ListNotifiers(req *pb.ListNotifiersRequest, projects func(string) bool) (*pb.ListNotifiersResponse, error) {
	page, next, err := list(r.store, notify.TableNotifiers, req.GetProject(), req.GetPageToken(), req.GetPageSize(), projects,
		func() *pb.Notifier { return &pb.Notifier{} })
	for _, m := range page {
		if err == nil {
			m.State, err = r.e.notifiers.State(m.Id)
		}
		shownNotifier(m)
	}
	return &pb.ListNotifiersResponse{Notifiers: page, NextPageToken: next}, err
}

// DeleteNotifier deletes a notifier with its outbox, also what waits there. Where it is interrupted it goes on when it is called again.
func (r *Registry) DeleteNotifier(ctx context.Context, id string) error {
	m, err := r.notifier(id)
	if err != nil {
		return err
	}
	if err := r.deleteTopic(ctx, notify.OutboxOf(m.Id)); err != nil && !errors.Is(err, ErrNotFound) {
		return err
	}
	tail, err := r.outboxTail(m.Id) // before the next one writes to it
	if err != nil {
		return err
	}
	if _, err := r.store.Commit(ctx, &storage.Txn{Guards: []storage.Guard{{Table: notify.TableNotifiers, Key: m.Id, Revision: m.Revision}},
		Writes: []storage.Write{{Table: notify.TableNotifiers, Key: m.Id}, {Table: notify.TableStates, Key: m.Id, Quiet: true}}}); err != nil {
		return deleteError("notifier", m.Id, err)
	}
	return r.e.notifiers.Forget(ctx, m.Id, tail.GetNext())
}

// TestNotifier sends a message past the outbox, once and at once.
func (r *Registry) TestNotifier(ctx context.Context, req *pb.TestNotifierRequest, by string) (*pb.NotificationOutcome, error) {
	m, err := r.notifier(req.GetId())
	if err != nil {
		return nil, err
	}
	n := &pb.Notification{Notifier: m.Id, Id: "test-" + time.Now().UTC().Format("20060102T150405.000000000"), Subject: req.Subject, Body: req.Body, To: req.To,
		By: by, Time: timestamppb.New(r.e.now())}
	if n.Subject == "" {
		n.Subject = "Test of notifier " + m.Id
	}
	if n.Body == "" {
		n.Body = "This is a test. Whoever reads it is reached."
	}
	return r.e.notifiers.Try(ctx, m, n)
}

// Notify commits a user's message into a notifier's outbox.
func (r *Registry) Notify(ctx context.Context, m *pb.Notification, by string) (offset uint64, err error) {
	conf, err := r.notifier(m.GetNotifier())
	if err != nil {
		return 0, err
	}
	m = proto.Clone(m).(*pb.Notification)
	m.Notifier, m.By = conf.Id, by
	if err := completeID(ProjectOf(conf.Id), "/notification/twin", &m.Twin); err != nil {
		return 0, err
	}
	for i, a := range m.Attachments {
		if err := wholeTable(ProjectOf(conf.Id), fmt.Sprintf("/notification/attachments/%d/history", i), a.GetHistory()); err != nil {
			return 0, err
		}
	}
	offset, err = r.e.notifiers.Send(ctx, m)
	if errors.Is(err, notify.ErrNotFound) {
		err = fmt.Errorf("%w: %w", ErrNotFound, err)
	}
	return offset, err
}

// Notifications gives a page of a notifier's outbox, the newest message first.
func (r *Registry) Notifications(ctx context.Context, req *pb.ListNotificationsRequest) (*pb.ListNotificationsResponse, error) {
	m, err := r.notifier(req.GetNotifier())
	if err != nil {
		return nil, err
	}
	req = proto.Clone(req).(*pb.ListNotificationsRequest)
	req.Notifier = m.Id
	return r.e.notifiers.List(ctx, req)
}

// notifiersOf calls f with each action that notifies, and its place.
func notifiersOf(path string, actions []*pb.Action, f func(path string, a *pb.NotifyAction) error) error {
	for i, a := range actions {
		at := fmt.Sprintf("%s/%d", path, i)
		var err error
		switch x := a.Do.(type) {
		case *pb.Action_Notify:
			err = f(at+"/notify", x.Notify)
		case *pb.Action_Parallel:
			err = notifiersOf(at+"/parallel/actions", x.Parallel.Actions, f)
		case *pb.Action_Raise:
			err = notifiersOfAll(at+"/raise/escalate", x.Raise.Escalate, f)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func notifiersOfAll(path string, all []*pb.Escalation, f func(path string, a *pb.NotifyAction) error) error {
	for i, e := range all {
		if err := notifiersOf(fmt.Sprintf("%s/%d/actions", path, i), e.Actions, f); err != nil {
			return err
		}
	}
	return nil
}

// notifierThere completes the notifier that an action names, and refuses one that is not there.
func (r *Registry) notifierThere(project string) func(path string, a *pb.NotifyAction) error {
	return func(path string, a *pb.NotifyAction) error {
		if err := completeID(project, path+"/notifier", &a.Notifier); err != nil {
			return err
		}
		if _, ok, err := r.store.Get(notify.TableNotifiers, a.Notifier); err != nil || !ok {
			return errors.Join(invalid(path+"/notifier", "there is no notifier %s", a.Notifier), err)
		}
		for i, x := range a.Attachments {
			if err := wholeTable(project, fmt.Sprintf("%s/attachments/%d/history", path, i), x.GetHistory()); err != nil {
				return err
			}
		}
		return nil
	}
}

// wholeTable completes and checks a table of history.
func wholeTable(project, path string, t *pb.HistoryTable) error {
	var f *automation.FieldError
	if err := notify.CheckTable(t); errors.As(err, &f) {
		return invalid(path+f.Path, "%s", f.Reason)
	}
	return completeSelection(project, path+"/of", t.GetOf())
}

// Series answers what tables of history ask. It blocks until ctx ends.
type Series func(ctx context.Context, q *pb.QuerySeriesRequest) (*pb.QuerySeriesResponse, error)

// SetSeries says who answers what attachments ask of the history.
func (c *Client) SetSeries(f Series) { c.e.series.Store(&f) }

// refNotifiers calls ref with the notifiers that actions name.
func refNotifiers(ref func(kind, id string), all ...[]*pb.Action) {
	for _, actions := range all {
		_ = notifiersOf("", actions, func(_ string, a *pb.NotifyAction) error {
			ref("notifier", a.Notifier)
			return nil
		})
	}
}
