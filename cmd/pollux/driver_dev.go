package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	"github.com/polluxhq/pollux/drivers"
	"github.com/polluxhq/pollux/drivers/project"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// lookEvery is how often the files of a project are looked at.
const lookEvery = 300 * time.Millisecond

func driverDev(a *app) *cobra.Command {
	d := &dev{app: a}
	cmd := &cobra.Command{
		Use:   "dev [DIR]",
		Short: "On each change of a file: build, test, push to a twin, and show its log",
		Long: `Watches the project. Whenever a file changes, it is built and tested; where that goes well, it is installed as a version of its own
(1.0.0-dev.1, which only this twin gets) and the twin goes over to it. The twin's log goes on below. Stop it with Ctrl-C; the twin keeps
what it has, and the versions before it are removed.

Without --twin nothing is sent anywhere: it builds and tests.`,
		Example: `  pollux driver dev                                    build and test on each change
  pollux driver dev ./my-lamp --twin desk-lamp --uri tcp://10.0.0.9
  pollux driver dev --twin desk-lamp                    a twin that is there already`,
		Args: between(0, "DIR"),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt)
			defer stop()
			d.dir = dirOf(args)
			return d.run(ctx)
		},
	}
	cmd.Flags().StringVar(&d.twin, "twin", "", "the twin that gets each version; it is made where it is not there")
	cmd.Flags().StringVar(&d.uri, "uri", "", "the address of a twin that is made")
	cmd.Flags().BoolVar(&d.once, "once", false, "do it once, without watching")
	d.tests.add(cmd)
	return cmd
}

// dev is one run of driver dev.
type dev struct {
	app            *app
	dir, twin, uri string
	once           bool
	tests          testFlags
	logs           context.CancelFunc
}

func (d *dev) run(ctx context.Context) error {
	if d.logs != nil {
		defer d.logs()
	}
	for last := ""; ; {
		now, err := fingerprint(d.dir)
		if err != nil {
			return err
		}
		if now != last {
			last = now
			err := d.turn(ctx)
			if d.once {
				return err
			}
			if err != nil && ctx.Err() == nil && !errors.Is(err, errTests) {
				d.app.explain(err)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(lookEvery):
		}
	}
}

// turn builds, tests and pushes.
func (d *dev) turn(ctx context.Context) error {
	began := time.Now()
	p, err := project.Find(d.dir)
	if err != nil {
		return err
	}
	file, err := p.Build(ctx)
	if err != nil {
		return err
	}
	d.app.printf("%s  built in %s\n", time.Now().Format("15:04:05"), time.Since(began).Round(time.Millisecond))
	if err := d.app.testDriver(ctx, p, file, &d.tests); err != nil && !errors.Is(err, project.ErrNoScripts) {
		return err
	}
	if d.twin == "" {
		return nil
	}
	return d.push(ctx, file)
}

// push installs the file under a version of its own and gives it to the twin.
func (d *dev) push(ctx context.Context, file []byte) error {
	file, name, version, err := renumber(ctx, file, time.Now())
	if err != nil {
		return err
	}
	n, err := d.app.dial()
	if err != nil {
		return err
	}
	d.app.printf("%s  installing %s@%s for %s\n", time.Now().Format("15:04:05"), name, version, d.twin)
	if _, err := n.drivers.UploadDriver(ctx, req(&pb.UploadDriverRequest{File: file, Stage: true})); err != nil {
		return err
	}
	before, err := d.give(ctx, n, name+"@"+version)
	if err != nil {
		return err
	}
	if old, number, _ := strings.Cut(before, "@"); old == name && strings.Contains(number, "-dev.") {
		// It may be in use elsewhere: then it stays.
		_, _ = n.drivers.DeleteDriver(ctx, req(&pb.DeleteDriverRequest{Name: name, Version: number}))
	}
	d.app.printf("%s  %s has %s@%s\n", time.Now().Format("15:04:05"), d.twin, name, version)
	if d.logs == nil && !d.once {
		d.tail(ctx)
	}
	return nil
}

// give has the twin use a driver, and says which one it had.
func (d *dev) give(ctx context.Context, n *node, driver string) (before string, err error) {
	got, err := n.twins.GetTwin(ctx, req(&pb.GetTwinRequest{Id: d.twin}))
	if connect.CodeOf(err) == connect.CodeNotFound {
		_, err := n.twins.CreateTwin(ctx, req(&pb.CreateTwinRequest{Twin: &pb.Twin{Id: d.twin, Driver: driver, Uri: d.uri}}))
		return "", err
	}
	if err != nil {
		return "", err
	}
	t := got.Msg.Twin
	before, t.Driver, t.State = t.Driver, driver, nil
	if d.uri != "" {
		t.Uri = d.uri
	}
	_, err = n.twins.UpdateTwin(ctx, req(&pb.UpdateTwinRequest{Twin: t}))
	return before, err
}

// tail prints the twin's log beside what is built.
func (d *dev) tail(ctx context.Context) {
	ctx, d.logs = context.WithCancel(ctx)
	go func() {
		r := &pb.WatchTwinsRequest{Filter: &pb.TwinFilter{Ids: []string{d.twin}}, Logs: true}
		if err := d.app.watchTwins(ctx, r, d.app.printLog); err != nil && ctx.Err() == nil {
			d.app.explain(err)
		}
	}()
}

// renumber gives a driver the version VERSION-dev.SECONDS, which sorts before VERSION.
func renumber(ctx context.Context, file []byte, now time.Time) (out []byte, name, version string, err error) {
	m, err := verified(ctx, file)
	if err != nil {
		return nil, "", "", err
	}
	base, _, _ := strings.Cut(m.Version, "-")
	version = fmt.Sprintf("%s-dev.%d", base, now.UnixMilli())
	if bytes.HasPrefix(file, []byte("\x00asm")) {
		var doc map[string]json.RawMessage
		text, err := drivers.ReadManifest(file)
		if err == nil {
			err = json.Unmarshal(text, &doc)
		}
		if err != nil {
			return nil, "", "", err
		}
		doc["version"], _ = json.Marshal(version)
		if text, err = json.Marshal(doc); err != nil {
			return nil, "", "", err
		}
		out, err = drivers.AppendManifest(file, text)
		return out, m.Name, version, err
	}
	declared := regexp.MustCompile(`(\bversion\s*:\s*['"` + "`" + `])` + regexp.QuoteMeta(m.Version) + `(['"` + "`" + `])`)
	at := declared.FindSubmatchIndex(file)
	if at == nil {
		return nil, "", "", fmt.Errorf("the source does not say version: '%s' in one place, where dev could put another", m.Version)
	}
	out = slices.Concat(file[:at[3]], []byte(version), file[at[4]:])
	return out, m.Name, version, nil
}

// unwatched are directories whose files come and go by themselves.
var unwatched = []string{"build", "vendor", "target", "node_modules", ".git"}

// fingerprint changes when a file of the project does.
func fingerprint(path string) (string, error) {
	var b strings.Builder
	err := filepath.WalkDir(path, func(name string, e fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist) && name != path:
			return nil // it went meanwhile
		case err != nil:
			return err
		case e.IsDir() && name != path && slices.Contains(unwatched, e.Name()):
			return fs.SkipDir
		case e.IsDir():
			return nil
		}
		info, err := e.Info()
		if err == nil {
			fmt.Fprintln(&b, name, info.Size(), info.ModTime().UnixNano())
		}
		return nil
	})
	return b.String(), err
}
