// Package pki is the cluster's own certificate authority: node certificates, the bundle of authorities that are trusted,
// join tokens with which a new node gets its first certificate, and a node's identity, which is replaced without a stop.
//
// It knows neither where authorities and tokens are kept (the caller's records) nor how certificates travel (package peer).
package pki
