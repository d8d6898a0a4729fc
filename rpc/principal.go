package rpc

import (
	"fmt"
	"time"
)

// Role is what a key may do, from everything down to nothing on this API.
type Role uint8

// Roles. The zero value may do nothing.
const (
	RoleNone Role = iota
	// RoleDevice speaks MQTT within its twin's topics and may call no procedure.
	RoleDevice
	// RoleViewer reads.
	RoleViewer
	// RoleOperator reads and uses twins; it configures nothing.
	RoleOperator
	// RoleAdmin does everything.
	RoleAdmin
)

var roleNames = [...]string{RoleNone: "", RoleDevice: "device", RoleViewer: "viewer", RoleOperator: "operator", RoleAdmin: "admin"}

// String gives the role's name as the API spells it.
func (r Role) String() string {
	if int(r) < len(roleNames) {
		return roleNames[r]
	}
	return fmt.Sprintf("role(%d)", r)
}

// ParseRole reads a role's name. Unknown names, and the empty one, are errors.
func ParseRole(s string) (Role, error) {
	for r, name := range roleNames {
		if name == s && s != "" {
			return Role(r), nil
		}
	}
	return RoleNone, fmt.Errorf("role %q: want admin, operator, viewer or device", s)
}

// Principal is who makes a call. It is shared between calls and never changed.
type Principal struct {
	// ID of the key that proved it.
	ID string
	// Name of the key, as shown in `by` fields.
	Name string
	Role Role
	// Project that the key is limited to; empty: all projects.
	Project string
	// Device is the twin's id (role device).
	Device string

	// credential is the hash of the secret shown: the key's, or the session's.
	credential hash
	// peer: another node vouches for it, and ends what it opened when the credential ends.
	peer bool
	// session: signed in by cookie, so the browser sends it unasked.
	session bool
	// expires; zero: never.
	expires time.Time
}

// Action is what a procedure does.
type Action uint8

// Actions. The zero value is allowed to nobody.
const (
	ActionNone Action = iota
	// ActionTwinRead reads configuration, state, history and events of twins.
	ActionTwinRead
	// ActionTwinUse invokes actions and sets desired values.
	ActionTwinUse
	// ActionTwinTrace reads the bytes of a twin's transport.
	ActionTwinTrace
	// ActionTwinConfigure creates, changes and deletes twins.
	ActionTwinConfigure
	// ActionDriverRead reads manifests.
	ActionDriverRead
	// ActionDriverWrite uploads and deletes drivers: code that runs on the nodes.
	ActionDriverWrite
	// ActionSiteRead reads zones, systems and the inbox.
	ActionSiteRead
	// ActionSiteWrite changes zones and systems.
	ActionSiteWrite
	// ActionIngest sends messages of devices. A device's key may send those of its own twin.
	ActionIngest
	// ActionTopicRead looks at topics, channels and messages.
	ActionTopicRead
	// ActionTopicUse publishes, and reads as a part of a channel.
	ActionTopicUse
	// ActionTopicWrite creates, changes and deletes topics.
	ActionTopicWrite
	// ActionClusterRead reads status, nodes and placement.
	ActionClusterRead
	// ActionClusterOperate drains and removes nodes, lets new ones in, and takes and restores backups, which hold all that
	// there is.
	ActionClusterOperate
	// ActionKeyRead lists keys, without their secrets.
	ActionKeyRead
	// ActionKeyWrite creates and deletes keys.
	ActionKeyWrite
	// ActionSessionCreate makes a login link for the caller itself.
	ActionSessionCreate
	// ActionMetricsRead reads the node's metrics and queries the metrics store across projects.
	ActionMetricsRead
	// ActionReflect reads the API's own description.
	ActionReflect

	actionCount
)

var actionNames = [actionCount]string{
	ActionNone: "none", ActionTwinRead: "twin.read", ActionTwinUse: "twin.use", ActionTwinTrace: "twin.trace",
	ActionTwinConfigure: "twin.configure", ActionDriverRead: "driver.read", ActionDriverWrite: "driver.write",
	ActionSiteRead: "site.read", ActionSiteWrite: "site.write", ActionIngest: "ingest.write", ActionClusterRead: "cluster.read",
	ActionTopicRead: "topic.read", ActionTopicUse: "topic.use", ActionTopicWrite: "topic.write",
	ActionClusterOperate: "cluster.operate",
	ActionKeyRead:        "key.read", ActionKeyWrite: "key.write", ActionSessionCreate: "session.create",
	ActionMetricsRead: "metrics.read", ActionReflect: "api.reflect",
}

// String names the action, such as twin.use.
func (a Action) String() string {
	if a < actionCount {
		return actionNames[a]
	}
	return fmt.Sprintf("action(%d)", a)
}

// right says who may do an action.
type right struct {
	// least is the lowest role that may; RoleNone: nobody.
	least Role
	// commits: the action commits something, and cannot be done without a quorum. Uses of twins are refused where they go.
	commits bool
	// shared actions on what belongs to no project are open to keys of one project too.
	shared bool
}

var rights = [actionCount]right{
	ActionTwinRead:       {least: RoleViewer},
	ActionTwinUse:        {least: RoleOperator},
	ActionTwinTrace:      {least: RoleOperator},
	ActionTwinConfigure:  {least: RoleAdmin, commits: true},
	ActionDriverRead:     {least: RoleViewer, shared: true},
	ActionDriverWrite:    {least: RoleAdmin, commits: true},
	ActionSiteRead:       {least: RoleViewer},
	ActionSiteWrite:      {least: RoleAdmin, commits: true},
	ActionIngest:         {least: RoleOperator, commits: true},
	ActionTopicRead:      {least: RoleViewer},
	ActionTopicUse:       {least: RoleOperator},
	ActionTopicWrite:     {least: RoleAdmin, commits: true},
	ActionClusterRead:    {least: RoleViewer, shared: true},
	ActionClusterOperate: {least: RoleAdmin, commits: true},
	ActionKeyRead:        {least: RoleAdmin},
	ActionKeyWrite:       {least: RoleAdmin, commits: true},
	ActionSessionCreate:  {least: RoleViewer, shared: true, commits: true},
	ActionMetricsRead:    {least: RoleViewer},
	ActionReflect:        {least: RoleViewer, shared: true},
}

// Everywhere stands in Resource.Project for what belongs to no project, and for all projects at once.
const Everywhere = "*"

// Resource is what an action touches, the project first. ID is empty for a whole kind.
type Resource struct {
	Project, Kind, ID string
}

// String is for people: `twin hotel/lamp`, `twin of project hotel`, `driver of all projects`.
func (r Resource) String() string {
	switch {
	case r.ID != "":
		return r.Kind + " " + r.ID
	case r.Project == Everywhere:
		return r.Kind + " of all projects"
	}
	return r.Kind + " of project " + r.Project
}

// Authorize says whether the principal may do the action on the resource: nil, or an error that wraps
// ErrUnauthenticated or ErrForbidden. What is not allowed by name is forbidden.
func Authorize(p *Principal, a Action, r Resource) error {
	if p == nil {
		return ErrUnauthenticated
	}
	if a >= actionCount || rights[a].least == RoleNone || p.Role < rights[a].least && !(a == ActionIngest && p.mayIngest()) {
		return forbidden(p, a, r)
	}
	switch {
	case r.Project == "":
		return forbidden(p, a, r)
	case p.Project == "", p.Project == r.Project:
		return nil
	case r.Project == Everywhere && rights[a].shared:
		return nil
	}
	return forbidden(p, a, r)
}

// mayIngest says whether the key is of a kind that sends messages; a device's is for its own twin.
func (p *Principal) mayIngest() bool {
	return p.Role >= rights[ActionIngest].least || p.Role == RoleDevice && p.Device != ""
}

func forbidden(p *Principal, a Action, r Resource) error {
	scope := "all projects"
	if p.Project != "" {
		scope = "project " + p.Project
	}
	return fmt.Errorf("%w: key %q (%s, %s) may not %s on %s", ErrForbidden, p.Name, p.Role, scope, a, r)
}
