// Package pollux assembles a node: it opens the store, joins the cluster, and starts the actors, the transports and the
// API. It is the only package that knows all parts; the program and every test start a node through Open.
package pollux
