package sink

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

var clickHouseTable = regexp.MustCompile(`^/([A-Za-z_][A-Za-z0-9_]{0,63})/([A-Za-z_][A-Za-z0-9_]{0,63})$`)

func checkClickHouse(u *place) error {
	if err := checkHost(u); err != nil {
		return err
	}
	if !clickHouseTable.MatchString(u.Path) {
		return wrong("want clickhouse://HOST:8123/DATABASE/TABLE")
	}
	return nil
}

// clickHouse inserts batches over ClickHouse's HTTP interface. Where there is no table it makes one, whose engine folds what came twice
// (same topic, offset and id) into one.
type clickHouse struct {
	http         *http.Client
	url          string
	table        string
	user, secret string
}

// clickHouseRow is a message as a row.
type clickHouseRow struct {
	Topic   string   `json:"topic"`
	Offset  uint64   `json:"offset"`
	Time    int64    `json:"time"`
	Millis  int64    `json:"time_ms"`
	Key     string   `json:"key"`
	ID      string   `json:"id"`
	Twin    string   `json:"twin"`
	Kind    string   `json:"kind"`
	Name    string   `json:"name"`
	Number  *float64 `json:"number"`
	Payload text     `json:"payload"`
}

// text is a string of JSON with bytes as they are, UTF-8 or not, as ClickHouse takes them.
type text []byte

// MarshalJSON implements json.Marshaler.
func (t text) MarshalJSON() ([]byte, error) {
	out := append(make([]byte, 0, len(t)+2), '"')
	for _, c := range t {
		switch {
		case c == '"' || c == '\\':
			out = append(out, '\\', c)
		case c < 0x20:
			out = fmt.Appendf(out, "\\u%04x", c)
		default:
			out = append(out, c)
		}
	}
	return append(out, '"'), nil
}

const clickHouseColumns = "topic String, offset UInt64, time DateTime, time_ms Int64, key String, id String, twin String, kind String, " +
	"name String, number Nullable(Float64), payload String"

func openClickHouse(ctx context.Context, u *place, _ *Options, _ string) (Target, error) {
	names := clickHouseTable.FindStringSubmatch(u.Path)
	c := &clickHouse{http: newClient(), url: "http://" + u.Host + "/", table: names[1] + "." + names[2],
		user: u.Query().Get("user"), secret: u.secret}
	if u.Scheme == "clickhouses" {
		c.url = strings.Replace(c.url, "http:", "https:", 1)
	}
	err := c.run(ctx, "CREATE TABLE IF NOT EXISTS "+c.table+" ("+clickHouseColumns+
		") ENGINE = ReplacingMergeTree PARTITION BY toYYYYMM(time) ORDER BY (topic, twin, name, time, offset, id)", nil)
	if err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// clickHouseMonths is how many months one insertion may have: ClickHouse takes 100 partitions, which begin at the midnight of its own time zone.
const clickHouseMonths = 99

func (c *clickHouse) Deliver(ctx context.Context, b *Batch) error {
	body, months := &bytes.Buffer{}, map[string]bool{}
	insert := func() error { return c.run(ctx, "INSERT INTO "+c.table+" FORMAT JSONEachRow", body) }
	for _, m := range b.Messages {
		s, at := saidOf(m), timeOf(m)
		month := at.UTC().Format("2006-01")
		if !months[month] && len(months) == clickHouseMonths {
			if err := insert(); err != nil {
				return err
			}
			body, months = &bytes.Buffer{}, map[string]bool{}
		}
		months[month] = true
		// A time that DateTime does not have would be another one there.
		row := clickHouseRow{Topic: b.Topic, Offset: m.Offset, Time: min(max(0, at.Unix()), math.MaxUint32), Millis: at.UnixMilli(), Key: m.Key, ID: m.Id, Twin: s.twin, Kind: s.kind,
			Name: s.name, Payload: m.Payload}
		if x, ok := s.number(); ok {
			row.Number = &x
		}
		if err := json.NewEncoder(body).Encode(row); err != nil {
			return fmt.Errorf("clickhouse: %w: %w", ErrRefused, err)
		}
	}
	return insert()
}

// run makes a request; the query goes in the URL and the rows in the body.
func (c *clickHouse) run(ctx context.Context, query string, body *bytes.Buffer) error {
	if body == nil {
		body = &bytes.Buffer{}
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url+"?query="+url.QueryEscape(query), body)
	if err != nil {
		return err
	}
	if c.user != "" {
		r.Header.Set("X-ClickHouse-User", c.user)
		r.Header.Set("X-ClickHouse-Key", c.secret)
	}
	err = answerOf(c.http.Do(r))
	var s *statusError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &s) && strings.Contains(s.text, "Unknown field found"):
		return fmt.Errorf("clickhouse: table %s lacks a column, which none of the rows is to blame for: %w", c.table, s)
	case s != nil && !errors.Is(err, ErrRefused) && refusedByClickHouse(s.text):
		return fmt.Errorf("clickhouse: %w: %w", ErrRefused, err)
	}
	return fmt.Errorf("clickhouse: %w", err)
}

var clickHouseCode = regexp.MustCompile(`^Code: ([0-9]+)[.,]`)

// clickHouseRefusals are codes of errors that a row itself is to blame for (src/Common/ErrorCodes.cpp), and with which servers, older ones above all,
// answer 500 nevertheless: what cannot be parsed, converted or inserted as null, what is out of bounds or too large, and what a constraint does
// not let in.
var clickHouseRefusals = []string{"6", "25", "26", "27", "38", "41", "53", "69", "70", "72", "117", "130", "131", "321", "349", "376", "395", "407",
	"441", "467", "469", "691"}

func refusedByClickHouse(text string) bool {
	code := clickHouseCode.FindStringSubmatch(text)
	return code != nil && slices.Contains(clickHouseRefusals, code[1])
}

func (c *clickHouse) Close() { c.http.CloseIdleConnections() }
