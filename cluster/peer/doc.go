// Package peer joins the nodes of a cluster: one port with mutual TLS for calls between actors, proposals to the leader, blobs,
// enrolment of new nodes, the API among nodes, and raft.
//
// Calls travel in batches over long-lived Connect streams. A call that is lost with its link ends at once, and says whether it may have
// run. Package peer knows no actors and no store; they come in as functions of Options.
package peer
