package main

import "github.com/polluxhq/pollux"

// urlFile in the data directory: a running node writes there where it answers, as its port may not be the default.
const urlFile = "url"

// certFile in the data directory: the certificate that a running node shows, where it speaks TLS.
const certFile = "url.pem"

// dataDir is where this machine's node keeps its key: the flag, the variable, or the default.
func (a *app) dataDir() string {
	if a.data != "" {
		return a.data
	}
	if dir := a.getenv("POLLUX_DATA"); dir != "" {
		return dir
	}
	return pollux.DefaultData()
}
