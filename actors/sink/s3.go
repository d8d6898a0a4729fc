package sink

import (
	"bytes"
	"context"
	"fmt"
	"path"
	"strings"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
)

func checkS3(u *place) error {
	if u.Host == "" || u.Port() != "" {
		return wrong("want s3://BUCKET/PREFIX?endpoint=HOST:PORT&access_key=KEY, and the secret key as the secret")
	}
	_, err := u.yes("tls", true)
	return err
}

// bucket keeps objects in S3-compatible storage. An object there is all or nothing.
type bucket struct {
	c            *minio.Client
	name, prefix string
}

func openS3(_ context.Context, u *place, _ *Options, _ string) (Target, error) {
	tls, err := u.yes("tls", true)
	if err != nil {
		return nil, err
	}
	q := u.Query()
	endpoint := q.Get("endpoint")
	if endpoint == "" {
		endpoint = "s3.amazonaws.com"
	}
	keys := credentials.NewStaticV4(q.Get("access_key"), u.secret, "")
	if q.Get("access_key") == "" {
		keys = credentials.NewIAM("") // the machine's own role
	}
	c, err := minio.New(endpoint, &minio.Options{Creds: keys, Secure: tls, Region: q.Get("region")})
	if err != nil {
		return nil, fmt.Errorf("s3 %s: %w", endpoint, err)
	}
	return &lake{store: &bucket{c: c, name: u.Host, prefix: strings.Trim(u.Path, "/")}}, nil
}

func (b *bucket) put(ctx context.Context, name string, body []byte, contentType string) error {
	name = path.Join(b.prefix, name)
	_, err := b.c.PutObject(ctx, b.name, name, bytes.NewReader(body), int64(len(body)), minio.PutObjectOptions{ContentType: contentType})
	if err != nil {
		return fmt.Errorf("put s3://%s/%s: %w", b.name, name, err)
	}
	return nil
}

func (b *bucket) close() {}
