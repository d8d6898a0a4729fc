package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

func historyExport(a *app) *cobra.Command {
	var span rangeFlags
	var format string
	what, project := "samples", "default"
	var twins, properties, kinds []string
	cmd := &cobra.Command{
		Use: "export FILE", Short: "Write samples, or the journal, to a file: CSV, JSON lines or Parquet",
		Long: `Writes the raw samples of a project, or with --journal its journal, of the last 24 hours or of the time that is asked for. The format
is that of the file's name (.csv, .json, .ndjson, .parquet), or of --format. FILE appears when it is whole; "-" is the standard output.`,
		Example: "  pollux history export day.parquet\n  pollux history export room1.csv --twin room1 --property temperature --since 720h\n" +
			"  pollux history export - --format json --journal --kind event --since 168h | jq .name",
		Args: exactly("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if format == "" {
				format = map[string]string{".csv": "csv", ".json": "json", ".ndjson": "json", ".jsonl": "json", ".parquet": "parquet"}[strings.ToLower(filepath.Ext(args[0]))]
			}
			if !slices.Contains([]string{"csv", "json", "parquet"}, format) {
				return usagef("--format %q: want csv, json or parquet, or a FILE that ends so", format)
			}
			if len(kinds) > 0 && what != "journal" {
				return usagef("--kind: is of the journal: --journal is missing")
			}
			start, end, err := span.read(time.Now())
			if err != nil {
				return err
			}
			q := url.Values{"format": {format}, "what": {what}, "twin": twins, "property": properties, "kind": kinds}
			if start != nil {
				q.Set("start", start.AsTime().Format(time.RFC3339Nano))
			}
			if end != nil {
				q.Set("end", end.AsTime().Format(time.RFC3339Nano))
			}
			n, err := a.dial()
			if err != nil {
				return err
			}
			r, err := http.NewRequestWithContext(cmd.Context(), http.MethodGet, n.at+"/v1/history/"+url.PathEscape(project)+"/export?"+q.Encode(), nil)
			if err != nil {
				return err
			}
			res, err := n.http.Do(r)
			if err != nil {
				return err
			}
			defer res.Body.Close()
			if res.StatusCode != http.StatusOK {
				return exportRefused(res)
			}
			if args[0] == "-" {
				_, err = io.Copy(cmd.OutOrStdout(), res.Body)
			} else {
				err = saveTo(args[0], res.Body)
			}
			if err != nil {
				return fmt.Errorf("export: %w", err)
			}
			return nil
		},
	}
	span.add(cmd, "24h")
	cmd.Flags().StringVar(&format, "format", "", "csv, json (a line per row) or parquet; default: as the file is named")
	cmd.Flags().StringVar(&project, "project", project, "of this project")
	cmd.Flags().StringSliceVar(&twins, "twin", nil, "only of these twins")
	cmd.Flags().StringSliceVar(&properties, "property", nil, "only these properties; of the journal: names")
	cmd.Flags().StringSliceVar(&kinds, "kind", nil, "of the journal: only these kinds")
	cmd.Flags().BoolFunc("journal", "the journal instead of the samples", func(string) error {
		what = "journal"
		return nil
	})
	return cmd
}

func exportRefused(res *http.Response) error {
	text, _ := io.ReadAll(io.LimitReader(res.Body, 64<<10))
	var p struct{ Detail, Path string }
	if json.Unmarshal(text, &p) != nil || p.Detail == "" {
		return fmt.Errorf("export: %s: %s", res.Status, printable(strings.TrimSpace(string(text))))
	}
	return fmt.Errorf("export: %s", printable(p.Detail))
}

// saveTo writes a file that appears when it is whole.
func saveTo(path string, r io.Reader) error {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".part-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) //nolint:errcheck // it is gone where all went well
	_, err = io.Copy(f, r)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Chmod(f.Name(), 0o644)
	}
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
