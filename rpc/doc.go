// Package rpc is the door of a node: the Connect services of pollux.v1 (JSON and binary; Connect, gRPC and gRPC-Web
// clients), the same watches over WebSocket, login, health, metrics and the console's files, as one http.Handler.
//
// In front of every procedure stands one function, Authorize(principal, action, resource). What a procedure touches is
// written in one table; a procedure without an entry cannot be called. Errors become RPC codes at one place.
//
// The package keeps API keys and sessions. It keeps nothing else: twins, drivers and places belong to package actors,
// the cluster's state comes in through an interface.
package rpc
