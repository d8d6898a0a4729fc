package main

import (
	"errors"
	"slices"
	"strconv"
	"strings"
)

// errNotPJLink is the error of a line that no projector says.
var errNotPJLink = errors.New("not a PJLink line")

// line is what a projector says: a greeting, or the answer to a command.
type line struct {
	// greeting is true for `PJLINK …`; then auth says what follows: none, salt or refused.
	greeting bool
	auth     string
	salt     string
	// command is the four letters that are answered; value what comes after the `=`, "OK" or ERR1 to ERR4 in capitals.
	command string
	value   string
}

// parseLine takes a received line apart. Some projectors answer in small letters, or with a line feed in front.
func parseLine(frame []byte) (line, error) {
	s := strings.Trim(string(frame), "\n\x00 ")
	if len(s) >= 6 && strings.EqualFold(s[:6], "PJLINK") {
		return parseGreeting(strings.TrimSpace(s[6:]))
	}
	if len(s) < 7 || s[0] != '%' || (s[1] != '1' && s[1] != '2') || s[6] != '=' {
		return line{}, errNotPJLink
	}
	command, value := strings.ToUpper(s[2:6]), s[7:]
	for i := range len(command) {
		if c := command[i]; (c < 'A' || c > 'Z') && (c < '0' || c > '9') {
			return line{}, errNotPJLink
		}
	}
	if upper := strings.ToUpper(value); upper == "OK" || isError(upper) {
		value = upper
	}
	return line{command: command, value: value}, nil
}

func parseGreeting(rest string) (line, error) {
	kind, salt, _ := strings.Cut(rest, " ")
	switch {
	case kind == "0" && salt == "":
		return line{greeting: true, auth: "none"}, nil
	case kind == "1" && salt != "" && len(salt) <= 64:
		return line{greeting: true, auth: "salt", salt: salt}, nil
	case strings.EqualFold(kind, "ERRA"):
		return line{greeting: true, auth: "refused"}, nil
	}
	return line{}, errNotPJLink
}

func isError(value string) bool {
	return len(value) == 4 && value[:3] == "ERR" && value[3] >= '1' && value[3] <= '4'
}

// digest goes before the first command of a connection: MD5 of the greeting's salt and the password, in hex.
func digest(salt, password string) string {
	const digits = "0123456789abcdef"
	text := make([]byte, 0, 32)
	for _, b := range md5Sum([]byte(salt + password)) {
		text = append(text, digits[b>>4], digits[b&15])
	}
	return string(text)
}

// powerStates in PJLink's order.
var powerStates = [...]string{"off", "on", "cooling", "warming"}

func parsePower(value string) (state string, ok bool) {
	if len(value) != 1 || value[0] < '0' || value[0] > '3' {
		return "", false
	}
	return powerStates[value[0]-'0'], true
}

// parseMute reads what is muted. What one projector calls 10 or 20 (only this is not muted) means the same as 30.
func parseMute(value string) (video, audio, ok bool) {
	switch value {
	case "11":
		return true, false, true
	case "21":
		return false, true, true
	case "31":
		return true, true, true
	case "10", "20", "30":
		return false, false, true
	}
	return false, false, false
}

// parseLamps reads `HOURS LIT` of one to eight lamps: the longest burnt one's hours, and whether any is lit.
func parseLamps(value string) (hours int, lit, ok bool) {
	fields := strings.Fields(value)
	if len(fields) == 0 || len(fields)%2 != 0 || len(fields) > 16 {
		return 0, false, false
	}
	for i := 0; i < len(fields); i += 2 {
		h, err := strconv.Atoi(fields[i])
		if err != nil || h < 0 || h > 999999 || (fields[i+1] != "0" && fields[i+1] != "1") {
			return 0, false, false
		}
		hours = max(hours, h)
		lit = lit || fields[i+1] == "1"
	}
	return hours, lit, true
}

// parts of the error status, in its order.
var parts = [6]string{"fan", "lamp", "temperature", "cover", "filter", "other"}

func parseErrors(value string) (states [6]string, ok bool) {
	if len(value) != len(states) {
		return states, false
	}
	for i := range states {
		switch value[i] {
		case '0':
			states[i] = "ok"
		case '1':
			states[i] = "warning"
		case '2':
			states[i] = "error"
		default:
			return states, false
		}
	}
	return states, true
}

// isInput says whether code is an input such as 31; class 2 goes on with letters, and with internal ones (6).
func isInput(code string) bool {
	return len(code) == 2 && code[0] >= '1' && code[0] <= '6' &&
		(code[1] >= '1' && code[1] <= '9' || code[1] >= 'A' && code[1] <= 'Z')
}

// parseInputs reads the list of inputs; what is none is passed over.
func parseInputs(value string) []string {
	var codes []string
	for _, code := range strings.Fields(value) {
		if isInput(code) && len(codes) < 64 {
			codes = append(codes, code)
		}
	}
	return codes
}

// inputTypes are what the first digit of an input stands for.
var inputTypes = [...]string{"rgb", "video", "digital", "storage", "network", "internal"}

// inputName gives the name of an input: the one of the settings (the first by alphabet, of several), or such as digital1.
func inputName(code string, names map[string]string) string {
	var own []string
	for name, c := range names {
		if c == code {
			own = append(own, name)
		}
	}
	if len(own) > 0 {
		slices.Sort(own)
		return own[0]
	}
	if !isInput(code) {
		return code
	}
	return inputTypes[code[0]-'1'] + strings.ToLower(code[1:])
}

// inputCode is the reverse of inputName; a code stands for itself.
func inputCode(name string, names map[string]string) (code string, ok bool) {
	if code, ok := names[name]; ok {
		return code, isInput(code)
	}
	for i, t := range inputTypes {
		if rest, found := strings.CutPrefix(name, t); found {
			code := string(rune('1'+i)) + strings.ToUpper(rest)
			return code, isInput(code)
		}
	}
	return name, isInput(name)
}
