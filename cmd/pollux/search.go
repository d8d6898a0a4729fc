package main

import (
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// searchKinds can be found.
var searchKinds = []string{"twin", "logic", "model", "zone", "system", "driver", "topic", "route", "schedule", "rule", "detector", "alarm", "relation", "sink", "source", "simulation", "notifier", "event"}

func searchCommand(a *app) *cobra.Command {
	r := &pb.SearchRequest{}
	var near string
	var within, labels []string
	var limit int
	one := map[string]*string{}
	cmd := a.client(&cobra.Command{
		Use:   "search [WORD…]",
		Short: "Find twins, models, zones, systems, drivers, topics and routes",
		Long: `Finds what has all the words in its name, title, model, driver, zone, labels or aliases, or words that begin so, the best first.
A word that nothing begins with is taken for mistyped. Without words everything that the flags leave is found.

--kind event finds words in the events that the journal has, the newest first; it goes with --project and nothing else.

--where is an expression over entry (entry.kind, entry.title …) and, of twins, twin (twin.properties.power …): docs/expressions.md.
--near and --within look at where a twin says it is, or at its label location.`,
		Example: `  pollux search epson hall
  pollux search --kind zone level
  pollux search lamp --where 'twin.properties.power == "on"' --facets
  pollux search --kind event door forced
  pollux search --near 52.5163,13.3777,10km
  pollux search --status fault --project acme -o json`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if limit < 1 {
				return usagef("--limit %d: want 1 or more", limit)
			}
			r.Query = strings.Join(args, " ")
			for _, name := range []string{"model", "driver", "zone", "status"} {
				if *one[name] != "" {
					r.Facets = append(r.Facets, &pb.FacetValue{Name: name, Value: *one[name]})
				}
			}
			for _, l := range labels {
				r.Facets = append(r.Facets, &pb.FacetValue{Name: "label", Value: l})
			}
			var err error
			if r.Near, err = parseNear(near); err != nil {
				return err
			}
			if r.Within, err = parseCorners(within); err != nil {
				return err
			}
			return a.search(cmd, r, limit)
		},
	})
	fl := cmd.Flags()
	fl.StringSliceVar(&r.Kinds, "kind", nil, "only these `KINDS`: "+strings.Join(searchKinds, ", "))
	fl.StringVar(&r.Project, "project", "", "only of this project")
	for _, name := range []string{"model", "driver", "zone", "status"} {
		one[name] = fl.String(name, "", map[string]string{"model": "only twins of this model (its id, or the title that a driver gives)", "driver": "only twins of this driver",
			"zone": "only in this zone (PROJECT/NAME) or below it", "status": "only twins that are connected, connecting, disconnected, sleeping, stopped, none or fault"}[name])
	}
	fl.StringArrayVar(&labels, "label", nil, "only with this label, `NAME=VALUE`; many times")
	fl.StringVar(&r.Where, "where", "", "only where this `EXPRESSION` holds")
	fl.StringVar(&near, "near", "", "only within a distance of a place, `LAT,LON,DISTANCE` such as 52.52,13.40,10km")
	fl.StringArrayVar(&within, "within", nil, "only in a box of two corners, or a polygon of more: `LAT,LON`; many times")
	fl.BoolVar(&r.CountFacets, "facets", false, "count kinds, projects, models, drivers, zones, status and labels of all that is found")
	fl.IntVar(&limit, "limit", 20, "at most so many")
	must(cmd.RegisterFlagCompletionFunc("kind", cobra.FixedCompletions(searchKinds, cobra.ShellCompDirectiveNoFileComp)))
	return cmd
}

// search reads pages until it has as many as are wanted.
func (a *app) search(cmd *cobra.Command, r *pb.SearchRequest, limit int) error {
	n, err := a.dial()
	if err != nil {
		return err
	}
	all := &pb.SearchResponse{}
	for {
		r.PageSize = uint32(min(max(limit-len(all.Hits), 1), 200))
		res, err := n.search.Search(cmd.Context(), req(r))
		if err != nil {
			return err
		}
		hits := append(all.Hits, res.Msg.Hits...)
		facets := all.Facets
		if all = res.Msg; r.PageToken != "" {
			all.Facets = facets
		}
		all.Hits = hits
		if r.PageToken = res.Msg.NextPageToken; r.PageToken == "" || len(hits) >= limit {
			break
		}
		r.CountFacets = false
	}
	return a.show(all, func(w io.Writer) { searchTable(w, all) })
}

func searchTable(w io.Writer, res *pb.SearchResponse) {
	switch {
	case len(res.Hits) == 0:
		fmt.Fprintln(w, "nothing found")
	case res.Hits[0].Kind == "event":
		eventTable(w, res)
		return
	default:
		row(w, "KIND", "ID", "TITLE", "MODEL", "ZONE", "STATUS", "LABELS")
	}
	for _, h := range res.Hits {
		status := dash(h.Status)
		if h.Distance > 0 {
			status += fmt.Sprintf(", %s away", distanceText(h.Distance))
		}
		row(w, h.Kind, bare(h.Id), dash(h.Title), dash(bare(h.Model)), dash(bare(h.Zone)), status, dash(strings.Join(h.Labels, ",")))
	}
	if n := uint64(len(res.Hits)); n < res.Total {
		fmt.Fprintf(w, "\n%d of %d; more with --limit\n", n, res.Total)
	}
	if res.Truncated {
		fmt.Fprintln(w, "\nThe expression was evaluated on the 20,000 best only: narrow the search by words or other flags.")
	}
	if res.Building {
		fmt.Fprintln(w, "\nThe node is still making its index: more may be found in a moment.")
	}
	for _, f := range res.Facets {
		fmt.Fprintln(w)
		row(w, strings.ToUpper(f.Name), "HITS")
		for _, v := range f.Values {
			row(w, v.Value, v.Hits)
		}
	}
}

// eventTable shows what the journal has.
func eventTable(w io.Writer, res *pb.SearchResponse) {
	row(w, "TIME", "TWIN", "EVENT", "DATA")
	for _, h := range res.Hits {
		row(w, h.Time.AsTime().Local().Format(time.DateTime), dash(bare(h.Id)), h.Title, h.Description)
	}
	if res.NextPageToken != "" {
		fmt.Fprintln(w, "\nThere may be more; see --limit.")
	}
}

func distanceText(metres float64) string {
	if metres < 1000 {
		return fmt.Sprintf("%.0f m", metres)
	}
	return fmt.Sprintf("%.1f km", metres/1000)
}

// parseNear reads LAT,LON,DISTANCE.
func parseNear(text string) (*pb.Near, error) {
	if text == "" {
		return nil, nil
	}
	at := strings.LastIndexByte(text, ',')
	if at < 0 {
		return nil, usagef("--near %q: want LAT,LON,DISTANCE such as 52.52,13.40,10km", text)
	}
	place, err := parsePoint(text[:at])
	metres, err2 := parseDistance(strings.TrimSpace(text[at+1:]))
	if err != nil || err2 != nil {
		return nil, usagef("--near %q: want LAT,LON,DISTANCE such as 52.52,13.40,10km", text)
	}
	return &pb.Near{Place: place, Metres: metres}, nil
}

func parsePoint(text string) (*pb.GeoPoint, error) {
	lat, lon, _ := strings.Cut(text, ",")
	x, err := strconv.ParseFloat(strings.TrimSpace(lat), 64)
	if err != nil {
		return nil, err
	}
	y, err := strconv.ParseFloat(strings.TrimSpace(lon), 64)
	if err != nil {
		return nil, err
	}
	return &pb.GeoPoint{Lat: x, Lon: y}, nil
}

// parseDistance reads 500, 500m or 10km.
func parseDistance(text string) (float64, error) {
	unit := 1.0
	if t, ok := strings.CutSuffix(text, "km"); ok {
		text, unit = t, 1000
	} else {
		text = strings.TrimSuffix(text, "m")
	}
	n, err := strconv.ParseFloat(text, 64)
	if err == nil && (n <= 0 || math.IsInf(n, 0)) {
		err = strconv.ErrRange
	}
	return n * unit, err
}

func parseCorners(texts []string) ([]*pb.GeoPoint, error) {
	var all []*pb.GeoPoint
	for _, t := range texts {
		p, err := parsePoint(t)
		if err != nil {
			return nil, usagef("--within %q: want LAT,LON", t)
		}
		all = append(all, p)
	}
	if len(all) == 1 {
		return nil, usagef("--within: one corner is no area; give two of a box, or more of a polygon")
	}
	return all, nil
}
