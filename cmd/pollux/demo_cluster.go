package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/polluxhq/pollux"
)

const (
	// demoAbsence is how long a node that was killed stays away, so that one can see its twins answer elsewhere.
	demoAbsence = 20 * time.Second
	// demoStart bounds the wait for all nodes.
	demoStart = time.Minute
	// demoStop bounds a graceful end of all nodes.
	demoStop = 15 * time.Second
)

// demoCluster runs nodes as processes of their own, so that one can be killed. The devices live here and go on.
type demoCluster struct {
	out     io.Writer
	program string
	nodes   []*demoProcess
	print   sync.Mutex
}

// demoProcess is one node.
type demoProcess struct {
	conf   pollux.Config
	expect int

	mu  sync.Mutex
	cmd *exec.Cmd
}

func serveDemoCluster(cmd *cobra.Command, c pollux.Config, nodes int) error {
	ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	program, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find the program: %w", err)
	}
	d := &demoCluster{out: cmd.OutOrStdout(), program: program}
	if err := d.plan(c, nodes); err != nil {
		return err
	}
	began := time.Now()
	var running sync.WaitGroup
	defer running.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ready := make(chan error, nodes)
	for _, n := range d.nodes {
		running.Go(func() { d.keep(ctx, n, ready) })
	}
	for range d.nodes {
		select {
		case err := <-ready:
			if err != nil {
				return err
			}
		case <-time.After(demoStart):
			return fmt.Errorf("the nodes did not come together in %v", demoStart)
		case <-ctx.Done():
			return nil
		}
	}
	first := d.nodes[0].conf
	fmt.Fprintf(d.out, "ready http=http://%s mqtt=%s nodes=%d data=%s seconds=%.2f\n", first.HTTP, first.MQTT, nodes, c.Data, time.Since(began).Seconds())
	broker, err := d.listen(ctx)
	if err != nil {
		return err
	}
	show := newDemoSite(d.out)
	show.after = d.explain
	err = show.run(ctx, demoNode{data: first.Data, url: "http://" + first.HTTP, mqtt: broker, client: &http.Client{Transport: http.DefaultTransport}})
	if ctx.Err() != nil {
		fmt.Fprintf(d.out, "stopping %d nodes\n", nodes)
		return nil
	}
	return err
}

// plan gives each node its name, zone, directory and ports.
func (d *demoCluster) plan(c pollux.Config, nodes int) error {
	ports := portPicker{}
	for i := range nodes {
		n := &demoProcess{conf: c, expect: 1}
		n.conf.Name, n.conf.AvailabilityZone = fmt.Sprintf("n%d", i+1), string(rune('a'+i))
		n.conf.Data = filepath.Join(c.Data, n.conf.Name)
		if err := ports.take(func(string, string) {}, &n.conf.HTTP, &n.conf.MQTT, &n.conf.Gossip, &n.conf.Peer); err != nil {
			return err
		}
		if i == 0 {
			n.expect = nodes
		} else {
			n.conf.Join = []string{d.nodes[0].conf.Peer}
		}
		d.nodes = append(d.nodes, n)
	}
	return nil
}

// keep runs a node until ctx ends, and starts it again a while after it was killed. ready is told once.
func (d *demoCluster) keep(ctx context.Context, n *demoProcess, ready chan<- error) {
	for told := false; ctx.Err() == nil; {
		err := d.once(ctx, n, func() {
			if told {
				d.say("%s is back, with pid %d", n.conf.Name, n.pid())
				return
			}
			told = true
			ready <- nil
		})
		if ctx.Err() != nil {
			return
		}
		if !told {
			ready <- fmt.Errorf("start %s: %w", n.conf.Name, err)
			return
		}
		d.say("%s has gone (%v); it is started again in %v", n.conf.Name, err, demoAbsence)
		select {
		case <-ctx.Done():
		case <-time.After(demoAbsence):
		}
	}
}

// once runs the node's process to its end.
func (d *demoCluster) once(ctx context.Context, n *demoProcess, ready func()) error {
	c := &n.conf
	args := []string{"serve", "--name", c.Name, "--availability-zone", c.AvailabilityZone, "--data", c.Data, "--http", c.HTTP, "--mqtt", c.MQTT,
		"--gossip", c.Gossip, "--peer", c.Peer, "--log-level", strings.ToLower(c.LogLevel.String()), "--log-format", c.LogFormat}
	if len(c.Join) > 0 {
		args = append(args, "--join", strings.Join(c.Join, ","))
	} else {
		args = append(args, "--bootstrap-expect", strconv.Itoa(n.expect))
	}
	cmd := exec.Command(d.program, args...)
	cmd.SysProcAttr = demoChild()
	errs := &prefixed{d: d, prefix: c.Name + " | "}
	cmd.Stderr = errs
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	n.mu.Lock()
	n.cmd = cmd
	n.mu.Unlock()
	ended := make(chan struct{})
	defer close(ended)
	go func() {
		select {
		case <-ended:
			return
		case <-ctx.Done():
			_ = cmd.Process.Signal(syscall.SIGTERM)
		}
		select {
		case <-ended:
		case <-time.After(demoStop):
			_ = cmd.Process.Kill()
		}
	}()
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if strings.HasPrefix(lines.Text(), "ready ") {
			ready()
		}
	}
	if err := cmd.Wait(); err != nil {
		return err
	}
	return errors.New("it was stopped")
}

func (n *demoProcess) pid() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.cmd == nil || n.cmd.Process == nil {
		return 0
	}
	return n.cmd.Process.Pid
}

// listen is one address for the brokers of all nodes, as a site has it before its devices: what connects is passed to a
// node that takes it.
func (d *demoCluster) listen(ctx context.Context) (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("listen for the devices: %w", err)
	}
	context.AfterFunc(ctx, func() { l.Close() })
	go func() {
		for turn := 0; ; turn++ {
			in, err := l.Accept()
			if err != nil {
				return
			}
			go d.pass(ctx, in, turn)
		}
	}()
	return l.Addr().String(), nil
}

func (d *demoCluster) pass(ctx context.Context, in net.Conn, turn int) {
	defer in.Close()
	for i := range d.nodes {
		out, err := net.DialTimeout("tcp", d.nodes[(turn+i)%len(d.nodes)].conf.MQTT, time.Second)
		if err != nil {
			continue
		}
		defer out.Close()
		stop := context.AfterFunc(ctx, func() { in.Close(); out.Close() })
		defer stop()
		go func() {
			_, _ = io.Copy(out, in)
			out.Close()
		}()
		_, _ = io.Copy(in, out)
		return
	}
}

// explain prints the nodes and how to see one of them fail.
func (d *demoCluster) explain() {
	d.print.Lock()
	defer d.print.Unlock()
	t := tabwriter.NewWriter(d.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "NODE\tCONSOLE\tZONE\tPID")
	for _, n := range d.nodes {
		fmt.Fprintf(t, "%s\thttp://%s/cluster\t%s\t%d\n", n.conf.Name, n.conf.HTTP, n.conf.AvailabilityZone, n.pid())
	}
	t.Flush()
	last := d.nodes[len(d.nodes)-1]
	fmt.Fprintf(d.out, "see a failover: kill -9 %d, and watch http://%s/cluster: the twins of %s answer elsewhere within seconds\n",
		last.pid(), d.nodes[0].conf.HTTP, last.conf.Name)
}

func (d *demoCluster) say(format string, args ...any) {
	d.print.Lock()
	defer d.print.Unlock()
	fmt.Fprintf(d.out, format+"\n", args...)
}

// prefixed writes whole lines to the program's errors, with the node's name before each.
type prefixed struct {
	d      *demoCluster
	prefix string
	rest   []byte
}

func (p *prefixed) Write(b []byte) (int, error) {
	p.rest = append(p.rest, b...)
	p.d.print.Lock()
	defer p.d.print.Unlock()
	for {
		line, rest, ok := bytes.Cut(p.rest, []byte{'\n'})
		if !ok {
			return len(b), nil
		}
		fmt.Fprintf(os.Stderr, "%s%s\n", p.prefix, line)
		p.rest = append([]byte(nil), rest...)
	}
}
