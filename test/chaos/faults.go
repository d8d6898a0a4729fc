package chaos

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"connectrpc.com/connect"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/test/harness"
	"github.com/polluxhq/pollux/test/journal"
)

// Until all twins answer, on a machine that has the load to carry and anything else. The benchmarks hold what is promised (5 s), on a calm one.
const (
	nodeLoss = 30 * time.Second
	planned  = 30 * time.Second
	hopeless = 60 * time.Second // gives up
)

// fault is one kind of harm.
type fault struct {
	name string
	// do harms, measures how long all twins take to answer, and mends. It returns what it did in words.
	do func(r *run) (string, error)
	// calm faults must not fail a single call.
	calm bool
}

// faults that a run draws from.
func faults() []fault {
	return []fault{
		{name: "kill follower", do: killFollower},
		{name: "kill leader", do: killLeader},
		{name: "stop", do: stop, calm: true},
		{name: "pause", do: pause},
		{name: "isolate", do: isolate},
		{name: "cut one way", do: cutOneWay},
		{name: "cut a link", do: cutLink},
		{name: "drain", do: drain, calm: true},
		{name: "transfer leadership", do: transfer, calm: true},
		{name: "selectors", do: selectors, calm: true},
		{name: "slow disk", do: slowDisk},
		{name: "failing disk", do: failDisk},
		{name: "rolling restart", do: rolling, calm: true},
	}
}

// selectors gives half of the twins another selector, which leaves each of them more than one node.
func selectors(r *run) (string, error) {
	n := r.any()
	choice := []string{"", "zone!=a", "zone!=b", "zone!=c"}
	since, changed := time.Now(), 0
	for _, id := range r.load.Twins() {
		if r.random.IntN(2) == 0 {
			continue
		}
		ctx, cancel := context.WithTimeout(context.Background(), planned)
		err := reselect(ctx, n, id, choice[r.random.IntN(len(choice))])
		cancel()
		if err != nil {
			return "", fmt.Errorf("selector of %s by %s: %w", id, n.Name, err)
		}
		changed++
	}
	return fmt.Sprintf("%d twins have another selector", changed), r.recovered("selectors", since, planned, nil)
}

func reselect(ctx context.Context, n *harness.Node, id, selector string) error {
	for { // each call ends with ctx
		got, err := n.Twins().GetTwin(ctx, connect.NewRequest(&pb.GetTwinRequest{Id: id}))
		if err != nil {
			return err
		}
		t := got.Msg.Twin
		t.State, t.Selector = nil, selector
		_, err = n.Twins().UpdateTwin(ctx, connect.NewRequest(&pb.UpdateTwinRequest{Twin: t}))
		if connect.CodeOf(err) != connect.CodeAborted {
			return err
		}
	}
}

// run is one chaos run.
type run struct {
	cluster *harness.Cluster
	load    *Load
	seed    uint64
	random  *rand.Rand
	began   time.Time
	recover []journal.Recovery
	calm    []journal.Verdict // of the calls during faults that must not fail one
}

// recovered waits until all twins answer by way of any node but one, and notes how long it took.
func (r *run) recovered(name string, since time.Time, bound time.Duration, but *harness.Node) error {
	others := harness.NewCaller(func() []*harness.Node {
		return slices.DeleteFunc(r.cluster.Running(), func(n *harness.Node) bool { return n == but })
	})
	took, last, err := Recover(others, r.load.Twins(), since, hopeless)
	r.recover = append(r.recover, journal.Recovery{Fault: name, Took: took, Bound: bound, Last: last})
	return err
}

// any draws a running node.
func (r *run) any() *harness.Node {
	all := r.cluster.Running()
	return all[r.random.IntN(len(all))]
}

func (r *run) between(least, most time.Duration) time.Duration {
	return least + time.Duration(r.random.Int64N(int64(most-least)))
}

func killFollower(r *run) (string, error) {
	return r.kill("kill follower", r.cluster.Follower(), nodeLoss)
}

func killLeader(r *run) (string, error) {
	return r.kill("kill leader", r.cluster.Leader(), nodeLoss+2*time.Second)
}

func (r *run) kill(name string, n *harness.Node, bound time.Duration) (string, error) {
	if n == nil {
		return "", errors.New("there is no such node")
	}
	since := time.Now()
	n.Kill()
	err := r.recovered(name+": "+n.Name, since, bound, n)
	return "kill -9 of " + n.Name, errors.Join(err, n.TryRun())
}

func stop(r *run) (string, error) {
	n := r.any()
	since := time.Now()
	if err := n.Stop(); err != nil {
		return "", err
	}
	took := time.Since(since)
	err := r.recovered("stop: "+n.Name, since, planned, n)
	return fmt.Sprintf("SIGTERM to %s, which ended after %.1f s", n.Name, took.Seconds()), errors.Join(err, n.TryRun())
}

func pause(r *run) (string, error) {
	n, span := r.any(), r.between(5*time.Second, 8*time.Second)
	since := time.Now()
	wake := r.load.Pause(n)
	timer := time.AfterFunc(span, wake)
	err := r.recovered("pause: "+n.Name, since, nodeLoss+2*time.Second, n)
	if timer.Stop() {
		time.Sleep(time.Until(since.Add(span)))
		wake()
	}
	time.Sleep(500 * time.Millisecond) // it wakes among its successors
	return fmt.Sprintf("%s stopped for %.1f s", n.Name, span.Seconds()), err
}

func isolate(r *run) (string, error) {
	n, span := r.any(), r.between(6*time.Second, 9*time.Second)
	since := time.Now()
	r.cluster.Net.Isolate(n.Name)
	err := r.recovered("isolate: "+n.Name, since, nodeLoss+2*time.Second, n)
	time.Sleep(time.Until(since.Add(span)))
	r.cluster.Net.Heal()
	return fmt.Sprintf("%s cut off for %.1f s", n.Name, time.Since(since).Seconds()), err
}

// cutOneWay lets a node hear and not speak, or speak and not hear.
func cutOneWay(r *run) (string, error) {
	n, span, mute := r.any(), r.between(5*time.Second, 8*time.Second), r.random.IntN(2) == 0
	since := time.Now()
	what := n.Name + " hears and is not heard"
	for _, o := range r.cluster.Nodes() {
		switch {
		case o == n:
		case mute:
			r.cluster.Net.Cut(n.Name, o.Name)
		default:
			r.cluster.Net.Cut(o.Name, n.Name)
			what = n.Name + " speaks and does not hear"
		}
	}
	heal := time.AfterFunc(span, r.cluster.Net.Heal)
	err := r.recovered("cut one way: "+n.Name, since, span+nodeLoss, n)
	if heal.Stop() {
		time.Sleep(time.Until(since.Add(span)))
		r.cluster.Net.Heal()
	}
	return fmt.Sprintf("%s for %.1f s", what, time.Since(since).Seconds()), err
}

// cutLink cuts two nodes from each other; a third one reaches both.
func cutLink(r *run) (string, error) {
	all := r.cluster.Running()
	r.random.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	span := r.between(3*time.Second, 6*time.Second)
	since := time.Now()
	r.cluster.Net.Cut(all[0].Name, all[1].Name)
	r.cluster.Net.Cut(all[1].Name, all[0].Name)
	time.Sleep(span)
	r.cluster.Net.Heal()
	err := r.recovered("cut a link: "+all[0].Name, since, span+nodeLoss, nil)
	return fmt.Sprintf("%s and %s cut from each other for %.1f s", all[0].Name, all[1].Name, span.Seconds()), err
}

func drain(r *run) (string, error) {
	n := r.any()
	since := time.Now()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if _, err := n.Cluster().DrainNode(ctx, connect.NewRequest(&pb.DrainNodeRequest{Node: n.Name})); err != nil {
		return "", err
	}
	if err := Drained(ctx, n); err != nil {
		return "", err
	}
	took := time.Since(since)
	err := r.recovered("drain: "+n.Name, since, planned, nil)
	if _, undrain := n.Cluster().UndrainNode(ctx, connect.NewRequest(&pb.UndrainNodeRequest{Node: n.Name})); undrain != nil {
		return "", errors.Join(err, undrain)
	}
	return fmt.Sprintf("%s drained in %.1f s, and taken back", n.Name, took.Seconds()), err
}

// Drained waits until a node has no slots.
func Drained(ctx context.Context, n *harness.Node) error {
	for {
		r, err := n.Cluster().GetPlacement(ctx, connect.NewRequest(&pb.GetPlacementRequest{}))
		if err != nil {
			return fmt.Errorf("slots of %s: %w", n.Name, err)
		}
		left := uint32(0)
		for _, p := range r.Msg.Nodes {
			if p.Name == n.Name {
				left = p.Slots
			}
		}
		if left == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s still has %d slots", n.Name, left)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func transfer(r *run) (string, error) {
	was := r.cluster.Leader()
	if was == nil {
		return "", errors.New("no leader")
	}
	since := time.Now()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	m, err := was.Cluster().TransferLeadership(ctx, connect.NewRequest(&pb.TransferLeadershipRequest{}))
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%s → %s", was.Name, m.Msg.LeaderName), r.recovered("transfer leadership: "+was.Name, since, planned, nil)
}

func slowDisk(r *run) (string, error) {
	n, delay, span := r.any(), r.between(100*time.Millisecond, 2*time.Second), r.between(4*time.Second, 6*time.Second)
	since := time.Now()
	mend, err := n.SlowDisk(delay)
	if errors.Is(err, harness.ErrNoDiskFaults) {
		return "left out: " + err.Error(), nil
	}
	if err != nil {
		return "", err
	}
	time.Sleep(time.Until(since.Add(span)))
	mend()
	err = r.recovered("slow disk: "+n.Name, since, span+nodeLoss, nil)
	what := fmt.Sprintf("each sync of %s took %d ms longer for %.1f s", n.Name, delay.Milliseconds(), span.Seconds())
	if n.Running() {
		return what, err
	}
	if !strings.Contains(n.Log(), "the disk has not answered") {
		err = errors.Join(err, fmt.Errorf("%s ended, and not for its disk: %s", n.Name, n.Log()))
	}
	return what + ", and it ended itself", errors.Join(err, n.TryRun())
}

// failDisk has each sync of a node fail. It has to end itself, and others take its twins.
func failDisk(r *run) (string, error) {
	n := r.any()
	since := time.Now()
	mend, err := n.FailDisk()
	if errors.Is(err, harness.ErrNoDiskFaults) {
		return "left out: " + err.Error(), nil
	}
	if err != nil {
		return "", err
	}
	defer mend()
	ended, _ := n.Wait()
	select {
	case <-ended:
	case <-time.After(nodeLoss):
		return "", fmt.Errorf("%s goes on, %v after its syncs began to fail", n.Name, nodeLoss)
	}
	took := time.Since(since)
	err = r.recovered("failing disk: "+n.Name, time.Now(), nodeLoss+2*time.Second, n)
	mend()
	return fmt.Sprintf("each sync of %s failed; it ended itself after %.1f s", n.Name, took.Seconds()), errors.Join(err, n.TryRun())
}

func rolling(r *run) (string, error) {
	since, all := time.Now(), r.cluster.Running()
	rates := r.drifts(len(all))
	for i, n := range all {
		if err := n.Stop(); err != nil {
			return "", fmt.Errorf("%s: %w", n.Name, err)
		}
		n.Drift(rates[i])
		if err := n.TryRun(); err != nil {
			return "", fmt.Errorf("%s: %w", n.Name, err)
		}
		if err := r.cluster.Settled(time.Minute); err != nil {
			return "", err
		}
	}
	return fmt.Sprintf("all nodes restarted one by one in %.1f s, with clocks at %.3f", time.Since(since).Seconds(), rates), r.recovered("rolling restart:", time.Now(), planned, nil)
}
