package actors

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"

	"github.com/polluxhq/pollux/actors/automation"
	"google.golang.org/protobuf/proto"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/storage"
)

// maxAutomations is how many schedules, and how many rules, a project may have.
const maxAutomations = 100_000

// at makes an InvalidError of what package automation says.
func at(err error) error {
	var f *automation.FieldError
	if errors.As(err, &f) {
		return &InvalidError{Path: f.Path, Reason: f.Reason}
	}
	return err
}

// born are the writes beside the record of a unit: they bring it to life.
func (r *Registry) born(kind, id string) []storage.Write {
	return []storage.Write{r.e.automation.Born(kind, id)}
}

// completeTargets completes the ids that actions name, which must be in the project.
func completeTargets(project, path string, actions []*pb.Action) error {
	for i, a := range actions {
		at := fmt.Sprintf("%s/%d", path, i)
		var to *pb.Targets
		switch x := a.Do.(type) {
		case *pb.Action_Call:
			to = x.Call.To
		case *pb.Action_Set:
			to = x.Set.To
		case *pb.Action_Publish:
			if err := completeID(project, at+"/publish/topic", &x.Publish.Topic); err != nil {
				return err
			}
		case *pb.Action_Logic:
			if err := completeID(project, at+"/logic/logic", &x.Logic.Logic); err != nil {
				return err
			}
		case *pb.Action_Raise:
			if err := completeEscalations(project, at+"/raise/escalate", x.Raise.Escalate); err != nil {
				return err
			}
		case *pb.Action_Parallel:
			if err := completeTargets(project, at+"/parallel/actions", x.Parallel.Actions); err != nil {
				return err
			}
		}
		if to == nil {
			continue
		}
		for _, x := range []struct {
			name string
			id   *string
		}{{"twin", &to.Twin}, {"system", &to.System}, {"zone", &to.Zone}} {
			if err := completeID(project, at+"/to/"+x.name, x.id); err != nil {
				return err
			}
		}
	}
	return nil
}

// completeID completes an id that may be empty, and must be in the project.
func completeID(project, path string, id *string) error {
	if *id == "" {
		return nil
	}
	full, err := CanonicalID(within(project, *id))
	switch {
	case err != nil:
		return invalid(path, "%q is no id", *id)
	case ProjectOf(full) != project:
		return invalid(path, "%s is in another project", full)
	}
	*id = full
	return nil
}

func completeSelection(project, path string, of *pb.Selection) error {
	if of == nil {
		return nil
	}
	for i := range of.Twins {
		if err := completeID(project, fmt.Sprintf("%s/twins/%d", path, i), &of.Twins[i]); err != nil {
			return err
		}
	}
	if err := completeID(project, path+"/zone", &of.Zone); err != nil {
		return err
	}
	return completeID(project, path+"/system", &of.System)
}

func completeTiming(project, path string, t *pb.Timing) error {
	if s := t.GetSun(); s != nil {
		if err := completeID(project, path+"/sun/twin_id", &s.TwinId); err != nil {
			return err
		}
		return completeID(project, path+"/sun/zone_id", &s.ZoneId)
	}
	return nil
}

// wholeSchedule completes and checks a schedule whose id is complete. It may be over: documents go on to say what was.
func (r *Registry) wholeSchedule(m *pb.Schedule) (*pb.Schedule, error) {
	project := ProjectOf(m.Id)
	if err := completeTiming(project, "/schedule/timing", m.Timing); err != nil {
		return nil, err
	}
	if err := completeTargets(project, "/schedule/actions", m.Actions); err != nil {
		return nil, err
	}
	if err := notifiersOf("/schedule/actions", m.Actions, r.notifierThere(project)); err != nil {
		return nil, err
	}
	m.UpdateTime = r.e.timestamp()
	return m, at(r.e.automation.CheckSchedule(m))
}

// wholeRule completes and checks a rule whose id is complete.
func (r *Registry) wholeRule(m *pb.Rule) (*pb.Rule, error) {
	project := ProjectOf(m.Id)
	for i, t := range m.When {
		path := fmt.Sprintf("/rule/when/%d", i)
		var err error
		switch x := t.On.(type) {
		case *pb.Trigger_Property:
			err = completeSelection(project, path+"/property/of", x.Property.Of)
		case *pb.Trigger_Event:
			err = completeSelection(project, path+"/event/of", x.Event.Of)
		case *pb.Trigger_Absent:
			err = completeSelection(project, path+"/absent/of", x.Absent.Of)
		case *pb.Trigger_Command:
			err = completeSelection(project, path+"/command/of", x.Command.Of)
		case *pb.Trigger_Webhook:
			err = sealWebhook(path+"/webhook", x.Webhook)
		case *pb.Trigger_Topic:
			err = completeID(project, path+"/topic/topic", &x.Topic.Topic)
		case *pb.Trigger_Schedule:
			err = completeTiming(project, path+"/schedule", x.Schedule)
		}
		if err != nil {
			return nil, err
		}
	}
	if err := completeTargets(project, "/rule/then", m.Then); err != nil {
		return nil, err
	}
	if err := completeTargets(project, "/rule/otherwise", m.Otherwise); err != nil {
		return nil, err
	}
	if err := notifiersOf("/rule/then", m.Then, r.notifierThere(project)); err != nil {
		return nil, err
	}
	if err := notifiersOf("/rule/otherwise", m.Otherwise, r.notifierThere(project)); err != nil {
		return nil, err
	}
	m.UpdateTime = r.e.timestamp()
	if err := at(r.e.automation.CheckRule(m)); err != nil {
		return nil, err
	}
	return m, r.conditionFits(m)
}

// minSecret is how many characters the secret of a webhook has at least.
const minSecret = 16

// sealWebhook keeps the hash of a secret instead of the secret.
func sealWebhook(path string, w *pb.WebhookTrigger) error {
	if w.Secret == "" {
		return nil
	}
	if len(w.Secret) < minSecret {
		return invalid(path+"/secret", "it has %d characters; %d are the least", len(w.Secret), minSecret)
	}
	sum := sha256.Sum256([]byte(w.Secret))
	w.Secret, w.SecretSha256 = "", hex.EncodeToString(sum[:])
	return nil
}

func (r *Registry) room(kind string, table storage.Table, id string, revision uint64) error {
	if revision > 0 {
		return nil
	}
	n, err := r.store.Count(table, ProjectOf(id)+"/")
	if err == nil && n >= maxAutomations {
		return invalid("/"+kind+"/id", "project %s has %d, which are as many as may be", ProjectOf(id), n)
	}
	return err
}

// PutSchedule makes a schedule (revision 0), or replaces the one of the revision given.
func (r *Registry) PutSchedule(ctx context.Context, m *pb.Schedule) (*pb.Schedule, error) {
	id, err := CanonicalID(m.GetId())
	if err != nil {
		return nil, err
	}
	m = proto.Clone(m).(*pb.Schedule)
	m.Id = id
	if m, err = r.wholeSchedule(m); err != nil {
		return nil, err
	}
	if err := at(r.e.automation.CheckDue(m, r.e.now())); err != nil {
		return nil, err
	}
	if err := r.room("schedule", automation.TableSchedules, id, m.Revision); err != nil {
		return nil, err
	}
	return put(ctx, r, "schedule", automation.TableSchedules, id, m, func() ([]storage.Guard, []storage.Write, error) {
		return nil, r.born(automation.KindSchedule, id), nil
	})
}

// PutRule makes a rule (revision 0), or replaces the one of the revision given.
func (r *Registry) PutRule(ctx context.Context, m *pb.Rule) (*pb.Rule, error) {
	id, err := CanonicalID(m.GetId())
	if err != nil {
		return nil, err
	}
	m = proto.Clone(m).(*pb.Rule)
	m.Id = id
	if m, err = r.wholeRule(m); err != nil {
		return nil, err
	}
	if err := r.room("rule", automation.TableRules, id, m.Revision); err != nil {
		return nil, err
	}
	m, err = put(ctx, r, "rule", automation.TableRules, id, m, func() ([]storage.Guard, []storage.Write, error) {
		return nil, r.born(automation.KindRule, id), nil
	})
	if err == nil {
		r.e.ruleRead(m.Id)
	}
	return m, err
}

// Schedule gives a schedule's configuration.
func (r *Registry) Schedule(id string) (*pb.Schedule, error) {
	id, err := CanonicalID(id)
	if err != nil {
		return nil, err
	}
	return get(r.store, automation.TableSchedules, id, &pb.Schedule{})
}

// Rule gives a rule's configuration.
func (r *Registry) Rule(id string) (*pb.Rule, error) {
	id, err := CanonicalID(id)
	if err != nil {
		return nil, err
	}
	return get(r.store, automation.TableRules, id, &pb.Rule{})
}

// ListSchedules gives a page of schedules by id; with a twin, those that act on it.
func (r *Registry) ListSchedules(req *pb.ListSchedulesRequest, projects func(string) bool) (*pb.ListSchedulesResponse, error) {
	page, next, err := list(r.store, automation.TableSchedules, req.GetProject(), req.GetPageToken(), req.GetPageSize(), projects,
		func() *pb.Schedule { return &pb.Schedule{} })
	if err != nil {
		return nil, err
	}
	if req.Twin != "" {
		page = slices.DeleteFunc(page, func(m *pb.Schedule) bool {
			named, through := r.actsOn(m.Actions, within(ProjectOf(m.Id), req.Twin))
			return !named && through == ""
		})
	}
	return &pb.ListSchedulesResponse{Schedules: page, NextPageToken: next}, nil
}

// actsOn says whether actions name a twin, and if not, through what they reach it.
func (r *Registry) actsOn(actions []*pb.Action, twin string) (named bool, through string) {
	for _, a := range actions {
		inner := a.GetParallel().GetActions()
		for _, e := range a.GetRaise().GetEscalate() {
			inner = append(inner[:len(inner):len(inner)], e.Actions...)
		}
		is, how := r.actsOn(inner, twin)
		to := a.GetCall().GetTo()
		if a.GetSet() != nil {
			to = a.GetSet().To
		}
		if is || to.GetTwin() == twin {
			return true, ""
		}
		if through == "" {
			through = cmp.Or(how, r.reaches(to, twin))
		}
	}
	return false, through
}

// reaches says through what an action's targets, which name no twin, have this one among them.
func (r *Registry) reaches(to *pb.Targets, twin string) string {
	of := selectionOf(to)
	if to.GetTwin() != "" || to.GetSystem() == "" && of == nil {
		return ""
	}
	among := func(name, id string) bool { return id == twin && meant(to.GetName(), name) }
	if to.System != "" && !anyMember(r.e.world.Members(within(ProjectOf(twin), to.System)), among) {
		return ""
	}
	switch {
	case !r.e.world.Matches(ProjectOf(twin), of, twin):
		return ""
	case to.System == "":
		return wordsOf(of)
	case to.Name == "":
		return "system " + to.System
	}
	return to.Name + " of system " + to.System
}

func anyMember(members map[string]string, is func(name, id string) bool) bool {
	for name, id := range members {
		if is(name, id) {
			return true
		}
	}
	return false
}

// ListRules gives a page of rules by id.
func (r *Registry) ListRules(req *pb.ListRulesRequest, projects func(string) bool) (*pb.ListRulesResponse, error) {
	page, next, err := list(r.store, automation.TableRules, req.GetProject(), req.GetPageToken(), req.GetPageSize(), projects,
		func() *pb.Rule { return &pb.Rule{} })
	return &pb.ListRulesResponse{Rules: page, NextPageToken: next}, err
}

// DeleteSchedule deletes a schedule. A firing that is under way stops at its next step.
func (r *Registry) DeleteSchedule(ctx context.Context, id string) error {
	return r.deleteUnit(ctx, automation.KindSchedule, automation.TableSchedules, id)
}

// DeleteRule deletes a rule. A firing that is under way stops at its next step.
func (r *Registry) DeleteRule(ctx context.Context, id string) error {
	err := r.deleteUnit(ctx, automation.KindRule, automation.TableRules, id)
	if full, bad := CanonicalID(id); bad == nil {
		r.e.ruleRead(full)
	}
	return err
}

func (r *Registry) deleteUnit(ctx context.Context, kind string, table storage.Table, id string) error {
	id, err := CanonicalID(id)
	if err != nil {
		return err
	}
	rec, ok, err := r.store.Get(table, id)
	if err != nil {
		return fmt.Errorf("delete %s %s: %w", kind, id, err)
	}
	if !ok {
		return fmt.Errorf("%s %s: %w", kind, id, ErrNotFound)
	}
	_, err = r.store.Commit(ctx, &storage.Txn{Guards: []storage.Guard{{Table: table, Key: id, Revision: rec.Revision}},
		Writes: append(r.e.automation.Buried(kind, id), storage.Write{Table: table, Key: id})})
	return deleteError(kind, id, err)
}

// CancelSchedules deletes the schedules of a twin's project whose actions name it. What reaches it otherwise at times is left, since it is for other
// twins too, and told.
func (r *Registry) CancelSchedules(ctx context.Context, twin string) (*pb.CancelSchedulesResponse, error) {
	twin, err := CanonicalID(twin)
	if err != nil {
		return nil, err
	}
	res := &pb.CancelSchedulesResponse{}
	left := func(kind, id, through string) {
		res.Left = append(res.Left, &pb.LeftUnit{Kind: kind, Id: id, Reason: through})
	}
	for rec, err := range r.store.Scan(automation.TableSchedules, ProjectOf(twin)+"/", "") {
		if err != nil {
			return res, fmt.Errorf("read schedules: %w", err)
		}
		m, err := decode(rec, &pb.Schedule{})
		if err != nil {
			continue
		}
		named, through := r.actsOn(m.Actions, twin)
		if through != "" {
			left(automation.KindSchedule, m.Id, through)
		}
		if !named {
			continue
		}
		if err := r.DeleteSchedule(ctx, rec.Key); err != nil && !errors.Is(err, ErrNotFound) {
			return res, err
		}
		res.Ids = append(res.Ids, rec.Key)
	}
	for rec, err := range r.store.Scan(automation.TableRules, ProjectOf(twin)+"/", "") {
		if err != nil {
			return res, fmt.Errorf("read rules: %w", err)
		}
		m, err := decode(rec, &pb.Rule{})
		if err != nil || !slices.ContainsFunc(m.When, func(t *pb.Trigger) bool { return t.GetSchedule() != nil }) {
			continue
		}
		if named, through := r.actsOn(slices.Concat(m.Then, m.Otherwise), twin); named {
			left(automation.KindRule, m.Id, "its name")
		} else if through != "" {
			left(automation.KindRule, m.Id, through)
		}
	}
	return res, nil
}

// CheckRule completes a rule and says what is wrong with it.
func (r *Registry) CheckRule(m *pb.Rule) (*pb.Rule, error) {
	id, err := CanonicalID(m.GetId())
	if err != nil {
		return nil, err
	}
	m = proto.Clone(m).(*pb.Rule)
	m.Id = id
	return r.wholeRule(m)
}
