package main

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/polluxhq/pollux/drivers/sdk/twin"
)

// hear takes a datagram. It says whether that decided the pending command, and how.
func hear(t *Twin, b []byte) (decided bool, output any, err error) {
	if from, payload, ok := scanned(b); ok && !t.Memory().Up {
		return false, nil, found(t, from, payload)
	}
	msg, ok := parseFrame(b)
	if !ok {
		t.Log("debug", "passed over a datagram that is no message for us")
		return false, nil, nil
	}
	if want := t.Settings().Network; int(msg.from.network) != want || want != 0 && !slices.Equal(msg.from.mac, t.Settings().route().mac) {
		return false, nil, nil // of another device behind the same router
	}
	t.Memory().Silent = false
	switch msg.kind {
	case pduUnconfirmed:
		if msg.service == unconfirmedCOV {
			if n, ok := parseNotification(msg.body); ok {
				notified(t, &n)
			}
		}
		return false, nil, nil
	case pduConfirmed:
		return false, nil, serve(t, &msg)
	}
	m := t.Memory()
	switch {
	case m.Wait != nil && msg.id == m.Wait.ID:
		return commandAnswered(t, &msg)
	case m.Asked != "" && msg.id == m.AskedID:
		return false, nil, questionAnswered(t, &msg)
	}
	return false, nil, nil // late
}

// serve answers what the device asks: only to take a notification.
func serve(t *Twin, msg *message) error {
	answer := []byte{pduReject << 4, msg.id, rejectUnknownService}
	switch {
	case msg.segmented:
		answer = []byte{pduAbort<<4 | 1, msg.id, abortNoSegmentation}
	case msg.service == serviceCOV:
		n, ok := parseNotification(msg.body)
		switch {
		case !ok:
			answer = []byte{pduReject << 4, msg.id, 4} // invalid tag
		case notified(t, &n):
			answer = []byte{pduSimpleAck << 4, msg.id, serviceCOV}
		default: // services, unknown subscription
			answer = []byte{pduError << 4, msg.id, serviceCOV, 0x91, 5, 0x91, 79}
		}
	}
	return ignoreOffline(t.Send(frame(bvlcUnicast, msg.from, false, answer)))
}

// notified reports changed values. It says whether anybody subscribed to them.
func notified(t *Twin, n *notification) (known bool) {
	if n.process != process {
		return false
	}
	faulty := false
	for _, c := range n.values {
		if c.property == propertyStatusFlags && len(c.values) == 1 && c.values[0].tag == tagBits {
			faulty = strings.HasPrefix(c.values[0].text[min(1, len(c.values[0].text)):], "1")
		}
	}
	for i := range t.Settings().Points {
		p := &t.Settings().Points[i]
		at, problem := p.place()
		if problem != "" || !p.told(at) || at.object != n.object || at.instance != n.instance {
			continue
		}
		known = true
		for _, c := range n.values {
			if c.property == at.property && c.index == nil {
				report(t, i, c.values, faulty)
			}
		}
	}
	return known
}

// outcome is what an answer means; nil: it was done.
func outcome(t *Twin, msg *message) *twin.Error {
	switch msg.kind {
	case pduError:
		class, code, ok := parseError(msg.body)
		if !ok {
			return &twin.Error{Code: codeRefused, Message: "the device answers with an error that cannot be read"}
		}
		text := "class " + strconv.FormatInt(class, 10) + ", code " + strconv.FormatInt(code, 10)
		return &twin.Error{Code: codeRefused, Message: "the device refuses: " + word(errorTexts, code, text), Retryable: code == 2 || code == 3}
	case pduReject:
		return &twin.Error{Code: codeRejected, Message: "the device rejects the request: " + word(rejectTexts, int64(msg.service), "")}
	case pduAbort:
		e := &twin.Error{Code: codeAborted, Message: "the device aborts the request: " + word(abortTexts, int64(msg.service), "")}
		switch msg.service {
		case 1, abortNoSegmentation, 11:
			e.Code = codeSegmentation
			e.Message = "the answer does not fit into one message, and segmentation is not supported: read single elements by index"
		case 3, 8, 9, 10:
			e.Retryable = true
		}
		return e
	}
	if !msg.segmented {
		return nil
	}
	stop := []byte{pduAbort << 4, msg.id, abortNoSegmentation}
	if err := t.Send(frame(bvlcUnicast, t.Settings().route(), false, stop)); err != nil {
		t.Log("debug", "abort: "+err.Error())
	}
	return &twin.Error{Code: codeSegmentation,
		Message: "the answer comes in segments, and segmentation is not supported: read single elements by index"}
}

func word(all []named, number int64, more string) string {
	for _, n := range all {
		if int64(n.number) == number {
			if more != "" {
				return n.name + " (" + more + ")"
			}
			return n.name
		}
	}
	if more != "" {
		return more
	}
	return "reason " + strconv.FormatInt(number, 10)
}

// mine says whether an answer with the right invoke id also has the right service.
func mine(msg *message, service uint8) bool {
	switch msg.kind {
	case pduReject, pduAbort:
		return true
	case pduComplexAck:
		return msg.service == service && service == serviceRead
	case pduSimpleAck:
		return msg.service == service && service != serviceRead
	}
	return msg.kind == pduError && msg.service == service
}

func commandAnswered(t *Twin, msg *message) (decided bool, output any, err error) {
	m := t.Memory()
	wait := *m.Wait
	if !mine(msg, wait.Service) {
		return false, nil, nil
	}
	refusal := outcome(t, msg)
	var result []any
	if refusal == nil && wait.Service == serviceRead {
		_, all, ok := parseRead(msg.body)
		if !ok {
			return false, nil, nil
		}
		for _, v := range all {
			result = append(result, v.plain())
		}
		if len(result) == 1 {
			output = result[0]
		} else {
			output = result
		}
	}
	m.Wait = nil
	if refusal != nil {
		return true, nil, refusal
	}
	if wait.Service == serviceWrite && wait.Point > 0 {
		// With priorities, what was written need not be what holds now.
		question := "r" + strconv.Itoa(wait.Point-1)
		m.Queue = slices.DeleteFunc(m.Queue, func(q string) bool { return q == question })
		m.Queue = slices.Insert(m.Queue, 0, question)
		err = say(t)
	}
	return true, output, err
}

func questionAnswered(t *Twin, msg *message) error {
	m, s := t.Memory(), t.Settings()
	kind, n := m.Asked[0], number10(m.Asked[1:])
	service := uint8(serviceRead)
	if kind == 's' {
		service = serviceSubscribeCOV
	}
	if !mine(msg, service) {
		return nil
	}
	refusal := outcome(t, msg)
	var all []value
	if refusal == nil && kind != 's' {
		at, values, ok := parseRead(msg.body)
		if !ok || !asked(s, kind, n, at) {
			return nil
		}
		all = values
	}
	switch {
	case refusal != nil:
		refused(t, kind, n, refusal)
	case kind == 's':
		m.Until[n] = time.Now().UnixMilli() + int64(s.CovS)*1000
		worksAgain(m)
	case kind == 'r':
		worksAgain(m)
		report(t, n, all, false)
	case len(all) == 1:
		fact(t, uint32(n), all[0])
	}
	m.Asked = ""
	return say(t)
}

// asked says whether an answer tells what was asked for.
func asked(s *Settings, kind byte, n int, at place) bool {
	if kind == 'f' {
		return at.object == objectDevice && at.property == uint32(n)
	}
	want, _ := s.Points[n].place()
	return at.object == want.object && at.instance == want.instance && at.property == want.property && (at.index == nil) == (want.index == nil) &&
		(at.index == nil || *at.index == *want.index)
}

func worksAgain(m *Memory) {
	m.Failed = slices.DeleteFunc(m.Failed, func(f string) bool { return f == m.Asked })
}

func refused(t *Twin, kind byte, n int, why *twin.Error) {
	m := t.Memory()
	what := "its property " + nameOf(properties, uint32(n))
	if kind != 'f' {
		at, _ := t.Settings().Points[n].place()
		what = t.Settings().Points[n].Name + " (" + at.String() + ")"
	}
	failed(t, m.Asked, what+": "+why.Message)
	switch kind {
	case 'r':
		t.Report(t.Settings().Points[n].Name, nil)
	case 's': // then it is polled, and asked for again later
		m.Until[n] = time.Now().UnixMilli()
		for i := range t.Settings().Points {
			at, problem := t.Settings().Points[i].place()
			if problem == "" && t.Settings().Points[i].told(at) && leader(t.Settings().Points, i) == n {
				queue(m, "r"+strconv.Itoa(i))
			}
		}
	}
}

// fact reports what the device says of itself.
func fact(t *Twin, property uint32, v value) {
	for _, o := range own {
		switch {
		case o.property != property:
		case property == 75:
			if v.tag == tagObject {
				t.Report(o.name, v.n&maxInstance)
			}
		case property == propertySystemStatus && v.tag == tagEnumerated && v.n < int64(len(systemStatus)):
			t.Report(o.name, systemStatus[v.n])
		default:
			t.Report(o.name, v.fit("string"))
		}
	}
}

func ignoreOffline(err error) error {
	if err == twin.ErrDisconnected {
		return nil
	}
	return err
}
