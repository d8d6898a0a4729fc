package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"

	"connectrpc.com/connect"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// maxPlain in bytes bounds what a node answers by plain HTTP.
const maxPlain = 64 << 20

// plain asks a path of the REST API. A problem becomes the error that the same call has over Connect, with its hint.
func (n *node) plain(ctx context.Context, method, path, kind string, body []byte) ([]byte, error) {
	r, err := http.NewRequestWithContext(ctx, method, n.at+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	if kind != "" {
		r.Header.Set("Content-Type", kind)
	}
	res, err := n.http.Do(r)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(io.LimitReader(res.Body, maxPlain))
	if err != nil {
		return nil, fmt.Errorf("%s %s: read the answer: %w", method, path, err)
	}
	if res.StatusCode < 300 {
		return text, nil
	}
	var p struct {
		Detail, Code, Reason, Path, Hint string
	}
	if json.Unmarshal(text, &p) != nil || p.Code == "" {
		return nil, fmt.Errorf("%s %s: %s: %.200q", method, path, res.Status, text)
	}
	code := connect.CodeUnknown
	_ = code.UnmarshalText([]byte(p.Code)) // a code that this program does not know stays unknown
	e := connect.NewError(code, errors.New(p.Detail))
	if d, err := connect.NewErrorDetail(&pb.ErrorInfo{Reason: p.Reason, Path: p.Path, Hint: p.Hint}); err == nil {
		e.AddDetail(d)
	}
	return nil, e
}
