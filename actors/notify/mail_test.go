package notify_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"mime"
	"mime/multipart"
	"net"
	"net/mail"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"

	"google.golang.org/protobuf/types/known/durationpb"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// received is a mail as the server has it.
type received struct {
	from, to, user string
	secure         bool
	m              *mail.Message
	body           []byte
}

// mailbox is a real SMTP server (github.com/emersion/go-smtp), which can be stopped, and started again at the same address.
type mailbox struct {
	t    *testing.T
	cert tls.Certificate
	ca   string
	addr string

	// tls: it speaks TLS from the first byte. bare: it knows no STARTTLS.
	tls, bare bool

	mu       sync.Mutex
	server   *smtp.Server
	listener net.Listener
	mails    []received
	ended    chan struct{}
}

func newMailbox(t *testing.T) *mailbox {
	t.Helper()
	return openMailbox(t, &mailbox{t: t})
}

func openMailbox(t *testing.T, b *mailbox) *mailbox {
	t.Helper()
	b.cert, b.ca = certificate(t)
	b.start()
	t.Cleanup(b.stop)
	return b
}

// certificate makes one of 127.0.0.1, with itself as authority.
func certificate(t *testing.T) (tls.Certificate, string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	conf := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature}
	der, err := x509.CreateCertificate(rand.Reader, conf, conf, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

func (b *mailbox) start() {
	b.t.Helper()
	addr := b.addr
	if addr == "" {
		addr = "127.0.0.1:0"
	}
	var l net.Listener
	var err error
	for end := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		if l, err = net.Listen("tcp", addr); err == nil {
			break
		}
		if time.Now().After(end) {
			b.t.Fatal(err)
		}
	}
	b.addr = l.Addr().String()
	s := smtp.NewServer(smtp.BackendFunc(func(c *smtp.Conn) (smtp.Session, error) { return &session{b: b, c: c}, nil }))
	s.Domain = "localhost"
	if conf := (&tls.Config{Certificates: []tls.Certificate{b.cert}}); b.tls {
		l = tls.NewListener(l, conf)
	} else if !b.bare {
		s.TLSConfig = conf
	}
	ended := make(chan struct{})
	b.mu.Lock()
	b.server, b.listener, b.ended = s, l, ended
	b.mu.Unlock()
	go func() {
		defer close(ended)
		_ = s.Serve(l)
	}()
}

func (b *mailbox) stop() {
	b.mu.Lock()
	s, l, ended := b.server, b.listener, b.ended
	b.server = nil
	b.mu.Unlock()
	if s != nil {
		_ = s.Close()
		_ = l.Close() // which the server may not serve yet, and would for ever
		<-ended
	}
}

func (b *mailbox) all() []received {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]received(nil), b.mails...)
}

// session is a client of the server: only lee may send, and nobody writes to nobody@.
type session struct {
	b        *mailbox
	c        *smtp.Conn
	user     string
	from, to string
}

func (s *session) AuthMechanisms() []string { return []string{sasl.Plain} }
func (s *session) Auth(string) (sasl.Server, error) {
	return sasl.NewPlainServer(func(_, user, password string) error {
		if user != "lee" || password != "sesame" {
			return smtp.ErrAuthFailed
		}
		s.user = user
		return nil
	}), nil
}

func (s *session) Mail(from string, _ *smtp.MailOptions) error {
	if s.user == "" {
		return smtp.ErrAuthRequired
	}
	s.from = from
	return nil
}

func (s *session) Rcpt(to string, _ *smtp.RcptOptions) error {
	if strings.HasPrefix(to, "nobody@") {
		return &smtp.SMTPError{Code: 550, EnhancedCode: smtp.EnhancedCode{5, 1, 1}, Message: "no such mailbox"}
	}
	s.to = to
	return nil
}

func (s *session) Data(r io.Reader) error {
	m, err := mail.ReadMessage(r)
	if err != nil {
		return err
	}
	body, err := io.ReadAll(m.Body)
	if err != nil {
		return err
	}
	_, secure := s.c.TLSConnectionState()
	s.b.mu.Lock()
	defer s.b.mu.Unlock()
	s.b.mails = append(s.b.mails, received{s.from, s.to, s.user, secure, m, body})
	return nil
}

func (s *session) Reset()        {}
func (s *session) Logout() error { return nil }

func (b *mailbox) conf(m *pb.MailNotifier) *pb.Notifier_Mail {
	host, port, _ := net.SplitHostPort(b.addr)
	m.Host, m.Ca, m.User, m.From = host, b.ca, "lee", "Pollux <house@example.com>"
	for _, c := range port {
		m.Port = m.Port*10 + uint32(c-'0')
	}
	return &pb.Notifier_Mail{Mail: m}
}

// parts gives the parts of a mail by their file names; the text has none.
func (m *received) parts(t *testing.T) map[string]string {
	t.Helper()
	kind, params, err := mime.ParseMediaType(m.m.Header.Get("Content-Type"))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(kind, "multipart/") {
		return map[string]string{"": string(m.body)}
	}
	all := map[string]string{}
	for r := multipart.NewReader(strings.NewReader(string(m.body)), params["boundary"]); ; {
		p, err := r.NextPart()
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(p)
		if err != nil {
			t.Fatal(err)
		}
		all[p.FileName()] = string(text)
	}
}

// decoded are the parts of a mail as they were before they were encoded for the way.
func (m *received) decoded(t *testing.T) map[string]string {
	t.Helper()
	all := m.parts(t)
	for name, text := range all {
		if name == "" {
			continue
		}
		raw, err := base64.StdEncoding.DecodeString(strings.NewReplacer("\r", "", "\n", "").Replace(text))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		all[name] = string(raw)
	}
	return all
}

// Mail goes by STARTTLS with a password. While the server is away it waits, goes out in its order when it is back, and not twice.
func TestMailOverAnOutage(t *testing.T) {
	r, b := newRig(t), newMailbox(t)
	h := r.give(r.host("n1"))
	r.notifier(&pb.Notifier{Id: "default/mail", Kind: b.conf(&pb.MailNotifier{To: []string{"kim@example.com"}}), Secret: "sesame",
		Subject: "[${project}] ${subject}", Body: "${body} of ${values.name}",
		Attachments: []*pb.Attachment{{Name: "${values.name}.txt", Content: &pb.Attachment_Text{Text: "by ${by}"}}}})
	r.send(h, &pb.Notification{Notifier: "default/mail", Id: "first", Subject: "Too\r\nhot", Body: "31", By: "rule/default/hot", Urgent: true,
		Values: map[string]string{"name": `"level"`}, Attachments: []*pb.Attachment{{Name: "own.txt", Content: &pb.Attachment_Text{Text: "mine ${by}"}}}})
	r.until(h, "default/mail", "the first is there", func(s *pb.NotifierState) bool { return s.Acknowledged == 1 })
	first := b.all()[0]
	if first.from != "house@example.com" || first.to != "kim@example.com" || first.user != "lee" || !first.secure || first.m.Header.Get("Subject") != "[default] Too hot" ||
		first.m.Header.Get("Auto-Submitted") != "auto-generated" || first.m.Header.Get("Importance") != "high" {
		t.Errorf("%+v", first)
	}
	if p := first.parts(t); len(p) != 3 || !strings.Contains(p[""], "31 of level") {
		t.Errorf("parts: %q", p)
	}
	b.stop()
	r.texts(h, "default/mail", 1, 4)
	s := r.until(h, "default/mail", "it waits", func(s *pb.NotifierState) bool { return s.Failures >= 3 })
	if s.Sent != 1 || s.Error == "" || strings.Contains(s.Error, "sesame") {
		t.Errorf("while the server is away: %v", s)
	}
	if got := r.states(h, "default/mail"); got != "31 acknowledged, 1 queued, 2 queued, 3 queued, 4 queued" {
		t.Errorf("outbox: %s", got)
	}
	b.start()
	s = r.until(h, "default/mail", "all are there", func(s *pb.NotifierState) bool { return s.Acknowledged == 5 && s.Failures == 0 })
	if s.Failed+s.Dropped > 0 || s.Error != "" {
		t.Errorf("afterwards: %v", s)
	}
	seen := map[string]bool{}
	var got []string
	for _, m := range b.all() {
		p := m.parts(t)
		got = append(got, strings.TrimSpace(p[""]))
		seen[m.m.Header.Get("Message-Id")] = true
	}
	if strings.Join(got, ", ") != "31 of level, 1 of ?, 2 of ?, 3 of ?, 4 of ?" || len(seen) != 5 {
		t.Errorf("mails: %q; ids: %v", got, seen)
	}
}

// What the server refuses for good is a failure of its own, and holds up nobody; a wrong password waits until it is mended.
func TestMailRefused(t *testing.T) {
	r, b := newRig(t), newMailbox(t)
	h := r.give(r.host("n1"))
	r.notifier(&pb.Notifier{Id: "default/mail", Kind: b.conf(&pb.MailNotifier{To: []string{"nobody@example.com", "kim@example.com"}}), Secret: "sesame"})
	r.texts(h, "default/mail", 1, 1)
	r.until(h, "default/mail", "one has failed", func(s *pb.NotifierState) bool { return s.Failed == 1 })
	o := r.outbox(h, "default/mail")[0].Outcome
	if !strings.Contains(o.Error, "no such mailbox") || strings.Join(o.Reached, " ") != "kim@example.com" || len(b.all()) != 1 {
		t.Errorf("%v; %d mails", o, len(b.all()))
	}
	conf := b.conf(&pb.MailNotifier{To: []string{"kim@example.com"}})
	r.notifier(&pb.Notifier{Id: "default/mail", Kind: conf, Secret: "simsim"})
	r.texts(h, "default/mail", 2, 1)
	s := r.until(h, "default/mail", "it waits", func(s *pb.NotifierState) bool { return s.Failures >= 2 })
	if !strings.Contains(s.Error, "Authentication failed") || strings.Contains(s.Error, "simsim") || s.Failed != 1 {
		t.Errorf("with a wrong password: %v", s)
	}
	r.notifier(&pb.Notifier{Id: "default/mail", Kind: conf, Secret: "sesame"})
	r.until(h, "default/mail", "it is mended", func(s *pb.NotifierState) bool { return s.Acknowledged == 1 })
	if got := len(b.all()); got != 2 {
		t.Errorf("%d mails", got)
	}
}

// Mail goes by TLS from the first byte where that is said; where STARTTLS is asked for, nothing is sent to a server that has none.
func TestMailByTLS(t *testing.T) {
	r, b := newRig(t), openMailbox(t, &mailbox{t: t, tls: true})
	h := r.give(r.host("n1"))
	r.notifier(&pb.Notifier{Id: "default/mail", Kind: b.conf(&pb.MailNotifier{To: []string{"kim@example.com"}, Security: pb.MailSecurity_MAIL_SECURITY_TLS}), Secret: "sesame"})
	r.texts(h, "default/mail", 1, 1)
	r.until(h, "default/mail", "it is there", func(s *pb.NotifierState) bool { return s.Acknowledged == 1 })
	if m := b.all()[0]; !m.secure || m.user != "lee" {
		t.Errorf("%+v", m)
	}
	bare := openMailbox(t, &mailbox{t: t, bare: true})
	r.notifier(&pb.Notifier{Id: "default/bare", Kind: bare.conf(&pb.MailNotifier{To: []string{"kim@example.com"}}), Secret: "sesame"})
	r.texts(h, "default/bare", 1, 1)
	s := r.until(h, "default/bare", "it waits", func(s *pb.NotifierState) bool { return s.Failures >= 2 })
	if len(bare.all()) > 0 || !strings.Contains(s.Error, "STARTTLS") || strings.Contains(s.Error, "sesame") {
		t.Errorf("without STARTTLS: %d mails; %v", len(bare.all()), s)
	}
}

// A server that is away for an hour: what is to be sent waits, with longer and longer waits between the tries, and is sent in its order, each mail once.
func TestAnHourAway(t *testing.T) {
	r, b := newRig(t), newMailbox(t)
	r.at("2026-03-01T12:00:00Z")
	h := r.give(r.host("n1"))
	r.notifier(&pb.Notifier{Id: "default/mail", Kind: b.conf(&pb.MailNotifier{To: []string{"kim@example.com"}}), Secret: "sesame",
		RetryMin: durationpb.New(time.Minute), RetryMax: durationpb.New(20 * time.Minute)})
	b.stop()
	r.texts(h, "default/mail", 1, 3)
	tries, last := uint32(0), time.Duration(0)
	for clock := r.clock(); clock.Before(time.Date(2026, 3, 1, 13, 0, 0, 0, time.UTC)); {
		s := r.until(h, "default/mail", "it waits for the next try", func(s *pb.NotifierState) bool {
			return s.Failures > tries && s.WaitFor != "" && s.WaitUntil.AsTime().After(clock)
		})
		wait := s.WaitUntil.AsTime().Sub(clock)
		if wait < last || wait > 20*time.Minute {
			t.Fatalf("at %v, after %d tries, it waits for %v", clock, s.Failures, wait)
		}
		tries, last, clock = s.Failures, wait, s.WaitUntil.AsTime()
		if tries == 3 {
			r.texts(h, "default/mail", 4, 2)
		}
		if clock.After(time.Date(2026, 3, 1, 13, 0, 0, 0, time.UTC)) {
			b.start()
		}
		r.at(clock.Format(time.RFC3339Nano))
	}
	s := r.until(h, "default/mail", "all are there", func(s *pb.NotifierState) bool { return s.Acknowledged == 5 })
	if tries != 7 || s.Failed+s.Dropped > 0 {
		t.Errorf("after %d tries: %v", tries, s)
	}
	var got []string
	for _, m := range b.all() {
		text := strings.Fields(m.parts(t)[""])
		got = append(got, text[len(text)-1])
	}
	if strings.Join(got, " ") != "1 2 3 4 5" {
		t.Errorf("mails: %v", got)
	}
}
