package rpc

import (
	"encoding/base64"
	"encoding/binary"
	"hash/crc32"
)

// A page token is, to clients, a word without a meaning: the last record's id behind a checksum over the kind of list
// and that id. A word of another list or of somebody's own making is refused, as it would silently show the end.
//
// The checksum is no secret: who forges a token sees no more than by asking for each page.

const tokenSum = 4 // bytes of CRC-32C

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// pageToken wraps what comes last on a page; "" stays "", as it ends the list.
func pageToken(kind, last string) string {
	if last == "" {
		return ""
	}
	return base64.RawURLEncoding.EncodeToString(append(sumOf(kind, last), last...))
}

// afterToken gives what pageToken wrapped for the same kind.
func afterToken(kind, token string) (string, error) {
	if token == "" {
		return "", nil
	}
	b, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil || len(b) <= tokenSum || string(b[:tokenSum]) != string(sumOf(kind, string(b[tokenSum:]))) {
		return "", invalid("page_token", "is not the next_page_token of such a list")
	}
	return string(b[tokenSum:]), nil
}

func sumOf(kind, last string) []byte {
	sum := crc32.Checksum([]byte(kind+"\x00"+last), castagnoli)
	return binary.BigEndian.AppendUint32(make([]byte, 0, tokenSum+len(last)), sum)
}

// paged lets a list of the registry run with the bare token: it unwraps the request's in place, and wraps the answer's.
func paged[R any](kind string, token *string, list func() (R, error), next func(R) *string) (R, error) {
	after, err := afterToken(kind, *token)
	if err != nil {
		var none R
		return none, err
	}
	*token = after
	res, err := list()
	if err == nil {
		to := next(res)
		*to = pageToken(kind, *to)
	}
	return res, err
}
