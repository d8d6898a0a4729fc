package rpc

import (
	"errors"
	"maps"
	"strings"

	"connectrpc.com/grpchealth"
	"connectrpc.com/grpcreflect"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	rpcv1 "github.com/polluxhq/pollux/proto/pollux/v1/polluxv1connect"
)

// procedure is one line of the table: what a procedure does, and on what.
type procedure struct {
	action Action
	// actionOf, where set, reads the action out of the request instead.
	actionOf func(m any) Action
	// resource completes the request and says what it touches: bare names get the project `default`, and a list
	// without a project gets the one that the caller is limited to.
	resource func(m any, p *Principal) (Resource, error)
	// reads: it commits nothing, though others of its action do.
	reads bool
	// open procedures need no principal. Only health is open.
	open bool
}

// procedures holds every procedure that can be called. What is missing here is refused.
func procedures() map[string]procedure {
	table := map[string]procedure{
		rpcv1.DriverServiceUploadDriverProcedure:    {action: ActionDriverWrite, resource: all("driver")},
		rpcv1.DriverServiceGetDriverProcedure:       {action: ActionDriverRead, resource: all("driver")},
		rpcv1.DriverServiceListDriversProcedure:     {action: ActionDriverRead, resource: all("driver")},
		rpcv1.DriverServiceDeleteDriverProcedure:    {action: ActionDriverWrite, resource: all("driver")},
		rpcv1.DriverServiceListCatalogProcedure:     {action: ActionDriverRead, resource: all("driver")},
		rpcv1.DriverServiceAddFromCatalogProcedure:  {action: ActionDriverWrite, resource: all("driver")},
		rpcv1.DriverServiceListInterfacesProcedure:  {action: ActionDriverRead, resource: all("driver")},
		rpcv1.DriverServiceStartRolloutProcedure:    {action: ActionDriverWrite, resource: all("driver")},
		rpcv1.DriverServiceGetRolloutProcedure:      {action: ActionDriverRead, resource: all("driver")},
		rpcv1.DriverServiceListRolloutsProcedure:    {action: ActionDriverRead, resource: all("driver")},
		rpcv1.DriverServiceHaltRolloutProcedure:     {action: ActionDriverWrite, resource: all("driver")},
		rpcv1.DriverServiceRollbackProcedure:        {action: ActionDriverWrite, resource: all("driver")},
		rpcv1.DriverServiceScanProcedure:            {action: ActionDriverWrite, resource: all("driver")},
		rpcv1.DriverServiceGetDriverSourceProcedure: {action: ActionDriverRead, resource: all("driver")},
		rpcv1.DriverServiceTestDriverProcedure:      {action: ActionDriverWrite, resource: all("driver")},

		rpcv1.TwinServiceCreateTwinProcedure: {action: ActionTwinConfigure, resource: twinConfig(func(m *pb.CreateTwinRequest) *pb.Twin { return m.GetTwin() })},
		rpcv1.TwinServiceUpdateTwinProcedure: {action: ActionTwinConfigure, resource: twinConfig(func(m *pb.UpdateTwinRequest) *pb.Twin { return m.GetTwin() })},
		rpcv1.TwinServiceDeleteTwinProcedure: {action: ActionTwinConfigure, resource: one("twin", func(m *pb.DeleteTwinRequest) *string { return &m.Id })},
		rpcv1.TwinServiceGetTwinProcedure:    {action: ActionTwinRead, resource: one("twin", func(m *pb.GetTwinRequest) *string { return &m.Id })},
		rpcv1.TwinServiceListTwinsProcedure: {action: ActionTwinRead, resource: filtered(func(m *pb.ListTwinsRequest) **pb.TwinFilter {
			return &m.Filter
		})},
		rpcv1.TwinServiceWatchTwinsProcedure: {action: ActionTwinRead, resource: filtered(func(m *pb.WatchTwinsRequest) **pb.TwinFilter {
			return &m.Filter
		})},
		rpcv1.TwinServiceInvokeProcedure:     {action: ActionTwinUse, resource: one("twin", func(m *pb.InvokeRequest) *string { return &m.Id })},
		rpcv1.TwinServiceSetDesiredProcedure: {action: ActionTwinUse, resource: one("twin", func(m *pb.SetDesiredRequest) *string { return &m.Id })},
		rpcv1.TwinServiceReleaseTwinsProcedure: {action: ActionTwinUse, resource: filtered(func(m *pb.ReleaseTwinsRequest) **pb.TwinFilter {
			return &m.Filter
		})},
		rpcv1.TwinServiceClearCommandsProcedure: {action: ActionTwinUse, resource: one("twin", func(m *pb.ClearCommandsRequest) *string { return &m.Id })},
		rpcv1.TwinServiceQueryHistoryProcedure:  {action: ActionTwinRead, resource: one("twin", func(m *pb.QueryHistoryRequest) *string { return &m.Id })},
		rpcv1.TwinServiceRecordTwinProcedure:    {action: ActionTwinTrace, resource: one("twin", func(m *pb.RecordTwinRequest) *string { return &m.Id })},
		rpcv1.TwinServiceTraceTwinProcedure:     {action: ActionTwinTrace, resource: one("twin", func(m *pb.TraceTwinRequest) *string { return &m.Id })},

		rpcv1.ClusterServiceGetStatusProcedure:    {action: ActionClusterRead, resource: all("cluster")},
		rpcv1.ClusterServiceListNodesProcedure:    {action: ActionClusterRead, resource: all("node")},
		rpcv1.ClusterServiceGetPlacementProcedure: {action: ActionClusterRead, resource: placement},

		rpcv1.ClusterServiceListSlotsProcedure:          {action: ActionClusterRead, resource: all("slot")},
		rpcv1.ClusterServiceListMovesProcedure:          {action: ActionClusterRead, resource: all("slot")},
		rpcv1.ClusterServiceCheckClusterProcedure:       {action: ActionClusterRead, resource: all("cluster")},
		rpcv1.ClusterServiceDrainNodeProcedure:          {action: ActionClusterOperate, resource: all("node")},
		rpcv1.ClusterServiceUndrainNodeProcedure:        {action: ActionClusterOperate, resource: all("node")},
		rpcv1.ClusterServiceRemoveNodeProcedure:         {action: ActionClusterOperate, resource: all("node")},
		rpcv1.ClusterServiceTransferLeadershipProcedure: {action: ActionClusterOperate, resource: all("node")},
		rpcv1.ClusterServiceCreateJoinTokenProcedure:    {action: ActionClusterOperate, resource: all("join token")},
		rpcv1.ClusterServiceListJoinTokensProcedure:     {action: ActionClusterOperate, resource: all("join token"), reads: true},
		rpcv1.ClusterServiceRevokeJoinTokenProcedure:    {action: ActionClusterOperate, resource: all("join token")},
		rpcv1.ClusterServiceRotateGossipKeyProcedure:    {action: ActionClusterOperate, resource: all("cluster")},
		rpcv1.ClusterServiceRotateCAProcedure:           {action: ActionClusterOperate, resource: all("cluster")},
		rpcv1.ClusterServiceBackupProcedure:             {action: ActionClusterOperate, resource: all("backup"), reads: true},
		rpcv1.ClusterServiceRestoreProcedure:            {action: ActionClusterOperate, resource: all("backup")},

		rpcv1.WatchServiceWatchProcedure: {actionOf: watchedAction, resource: watched},

		rpcv1.KeyServiceCreateKeyProcedure: {action: ActionKeyWrite, resource: newKeyResource},
		rpcv1.KeyServiceListKeysProcedure:  {action: ActionKeyRead, resource: own("key")},
		// The handler authorizes once more when it knows the key's project.
		rpcv1.KeyServiceDeleteKeyProcedure:       {action: ActionKeyWrite, resource: own("key")},
		rpcv1.KeyServiceCreateLoginLinkProcedure: {action: ActionSessionCreate, resource: all("session")},

		rpcv1.ModelServiceCreateModelProcedure: {action: ActionTwinConfigure, resource: one("model", func(m *pb.CreateModelRequest) *string {
			return idOf(m.GetModel() == nil, func() *string { return &m.Model.Id })
		})},
		rpcv1.ModelServiceUpdateModelProcedure: {action: ActionTwinConfigure, resource: one("model", func(m *pb.UpdateModelRequest) *string {
			return idOf(m.GetModel() == nil, func() *string { return &m.Model.Id })
		})},
		rpcv1.ModelServiceDeleteModelProcedure: {action: ActionTwinConfigure, resource: one("model", func(m *pb.DeleteModelRequest) *string { return &m.Id })},
		rpcv1.ModelServiceGetModelProcedure:    {action: ActionTwinRead, resource: one("model", func(m *pb.GetModelRequest) *string { return &m.Id })},
		rpcv1.ModelServiceListModelsProcedure:  {action: ActionTwinRead, resource: listed("model", func(m *pb.ListModelsRequest) *string { return &m.Project })},

		rpcv1.SiteServicePutZoneProcedure: {action: ActionSiteWrite, resource: one("zone", func(m *pb.PutZoneRequest) *string {
			return idOf(m.GetZone() == nil, func() *string { return &m.Zone.Id })
		})},
		rpcv1.SiteServiceListZonesProcedure:  {action: ActionSiteRead, resource: listed("zone", func(m *pb.ListZonesRequest) *string { return &m.Project })},
		rpcv1.SiteServiceGetZoneProcedure:    {action: ActionSiteRead, resource: one("zone", func(m *pb.GetZoneRequest) *string { return &m.Id })},
		rpcv1.SiteServiceDeleteZoneProcedure: {action: ActionSiteWrite, resource: one("zone", func(m *pb.DeleteZoneRequest) *string { return &m.Id })},
		rpcv1.SiteServicePutSystemProcedure:  {action: ActionSiteWrite, resource: systemConfig},
		rpcv1.SiteServiceListSystemsProcedure: {action: ActionSiteRead, resource: listed("system", func(m *pb.ListSystemsRequest) *string {
			return &m.Project
		})},
		rpcv1.SiteServiceGetSystemProcedure:    {action: ActionSiteRead, resource: one("system", func(m *pb.GetSystemRequest) *string { return &m.Id })},
		rpcv1.SiteServiceStartSystemProcedure:  {action: ActionTwinConfigure, resource: one("system", func(m *pb.StartSystemRequest) *string { return &m.Id })},
		rpcv1.SiteServiceStopSystemProcedure:   {action: ActionTwinConfigure, resource: one("system", func(m *pb.StopSystemRequest) *string { return &m.Id })},
		rpcv1.SiteServiceInvokeSystemProcedure: {action: ActionTwinUse, resource: one("system", func(m *pb.InvokeSystemRequest) *string { return &m.Id })},
		rpcv1.SiteServiceDeleteSystemProcedure: {action: ActionSiteWrite, resource: one("system", func(m *pb.DeleteSystemRequest) *string { return &m.Id })},
		rpcv1.SiteServiceListInboxProcedure:    {action: ActionSiteRead, resource: listed("inbox", func(m *pb.ListInboxRequest) *string { return &m.Project })},

		rpcv1.SiteServiceClaimInboxProcedure:  {action: ActionTwinConfigure, resource: claimed},
		rpcv1.SiteServiceIgnoreInboxProcedure: {action: ActionSiteWrite, resource: inboxEntry(func(m *pb.IgnoreInboxRequest) string { return m.Id })},

		rpcv1.SearchServiceSearchProcedure: {action: ActionTwinRead, resource: listed("entry", func(m *pb.SearchRequest) *string { return &m.Project })},

		rpcv1.BulkServiceApplyProcedure:  {action: ActionTwinConfigure, resource: applied},
		rpcv1.BulkServiceDryRunProcedure: {action: ActionTwinConfigure, resource: applied, reads: true},
		rpcv1.BulkServiceExportProcedure: {action: ActionTwinRead, resource: exported},

		rpcv1.IngestServiceIngestProcedure:             {action: ActionIngest, resource: ingested},
		rpcv1.IngestServiceIngestStreamProcedure:       {action: ActionIngest, resource: ingested},
		rpcv1.IngestServiceGetIngestStatusProcedure:    {action: ActionSiteRead, resource: listed("message", func(m *pb.GetIngestStatusRequest) *string { return &m.Project })},
		rpcv1.IngestServiceListRefusalsProcedure:       {action: ActionSiteRead, resource: listed("message", func(m *pb.ListRefusalsRequest) *string { return &m.Project })},
		rpcv1.IngestServiceGetProjectSettingsProcedure: {action: ActionSiteRead, resource: listed("project", func(m *pb.GetProjectSettingsRequest) *string { return &m.Project })},
		rpcv1.IngestServicePutProjectSettingsProcedure: {action: ActionSiteWrite, resource: listed("project", func(m *pb.PutProjectSettingsRequest) *string {
			return idOf(m.GetSettings() == nil, func() *string { return &m.Settings.Project })
		})},

		rpcv1.SettingsServiceGetSettingsProcedure:          {actionOf: settingsAction, resource: settingsResource},
		rpcv1.SettingsServiceSetSettingsProcedure:          {actionOf: settingsAction, resource: settingsResource},
		rpcv1.SettingsServiceListSettingsVersionsProcedure: {actionOf: settingsAction, resource: settingsResource},
		rpcv1.SettingsServiceDiffSettingsProcedure:         {actionOf: settingsAction, resource: settingsResource},

		"/" + grpchealth.HealthV1ServiceName + "/Check":                       {open: true},
		"/" + grpchealth.HealthV1ServiceName + "/Watch":                       {open: true},
		"/" + grpcreflect.ReflectV1ServiceName + "/ServerReflectionInfo":      {action: ActionReflect, resource: all("api")},
		"/" + grpcreflect.ReflectV1AlphaServiceName + "/ServerReflectionInfo": {action: ActionReflect, resource: all("api")},
	}
	maps.Copy(table, topicProcedures())
	maps.Copy(table, relationProcedures())
	maps.Copy(table, historyProcedures())
	maps.Copy(table, sinkProcedures())
	maps.Copy(table, notifierProcedures())
	maps.Copy(table, automationProcedures())
	maps.Copy(table, alarmProcedures())
	maps.Copy(table, pastProcedures())
	maps.Copy(table, sourceProcedures())
	maps.Copy(table, logicProcedures())
	maps.Copy(table, simulationProcedures())
	maps.Copy(table, projectProcedures())
	maps.Copy(table, aliasProcedures())
	maps.Copy(table, analyticsProcedures())
	return table
}

var errWrongMessage = errors.New("request of another procedure")

// all: the whole kind, in no project.
func all(kind string) func(any, *Principal) (Resource, error) {
	return func(any, *Principal) (Resource, error) { return Resource{Project: Everywhere, Kind: kind}, nil }
}

// own: the kind within what the caller is limited to.
func own(kind string) func(any, *Principal) (Resource, error) {
	return func(_ any, p *Principal) (Resource, error) { return Resource{Project: scopeOf(p), Kind: kind}, nil }
}

func scopeOf(p *Principal) string {
	if p != nil && p.Project != "" {
		return p.Project
	}
	return Everywhere
}

// one: the record that the request names.
func one[M any](kind string, id func(M) *string) func(any, *Principal) (Resource, error) {
	return func(m any, _ *Principal) (Resource, error) {
		msg, ok := m.(M)
		if !ok {
			return Resource{}, errWrongMessage
		}
		return named(kind, "id", id(msg))
	}
}

func idOf(missing bool, id func() *string) *string {
	if missing {
		return nil
	}
	return id()
}

// named completes the id in place.
func named(kind, path string, id *string) (Resource, error) {
	if id == nil || *id == "" {
		return Resource{}, invalid(path, "is missing")
	}
	project, _, err := splitID(*id)
	if err != nil {
		return Resource{}, invalid(path, err.Error())
	}
	*id = canonicalID(*id)
	return Resource{Project: project, Kind: kind, ID: *id}, nil
}

// sameProject completes a reference in place; where it is set, it must be in the project.
func sameProject(project, path string, id *string) error {
	if *id == "" {
		return nil
	}
	r, err := named("", path, withProject(project, id))
	if err == nil && r.Project != project {
		err = invalid(path, *id+" is in another project")
	}
	return err
}

// listed: the kind in the project that the request names, or in the caller's.
func listed[M any](kind string, project func(M) *string) func(any, *Principal) (Resource, error) {
	return func(m any, p *Principal) (Resource, error) {
		msg, ok := m.(M)
		if !ok {
			return Resource{}, errWrongMessage
		}
		name := project(msg)
		if name == nil {
			return Resource{}, invalid(kind, "is missing")
		}
		return narrowed(kind, name, p)
	}
}

func narrowed(kind string, project *string, p *Principal) (Resource, error) {
	if *project == "" && p != nil {
		*project = p.Project
	}
	if *project == "" {
		return Resource{Project: Everywhere, Kind: kind}, nil
	}
	if !validProject(*project) {
		return Resource{}, invalid("project", *project+" is no project's name")
	}
	return Resource{Project: *project, Kind: kind}, nil
}

// filtered: the twins of a filter; all of its conditions hold together, so its project bounds its ids too.
func filtered[M any](filter func(M) **pb.TwinFilter) func(any, *Principal) (Resource, error) {
	return func(m any, p *Principal) (Resource, error) {
		msg, ok := m.(M)
		if !ok {
			return Resource{}, errWrongMessage
		}
		f := filter(msg)
		if *f == nil {
			*f = &pb.TwinFilter{}
		}
		r, err := narrowed("twin", &(*f).Project, p)
		if err != nil {
			return Resource{}, err
		}
		for i := range (*f).Ids {
			if _, err := named("twin", "filter.ids", withProject((*f).Project, &(*f).Ids[i])); err != nil {
				return Resource{}, err
			}
		}
		if (*f).Zone != "" {
			(*f).Zone = canonicalID(*withProject((*f).Project, &(*f).Zone))
		}
		if (*f).System != "" {
			if _, err := named("system", "filter.system", withProject((*f).Project, &(*f).System)); err != nil {
				return Resource{}, err
			}
		}
		return r, nil
	}
}

// withProject completes a bare name in place, where there is a project and a name.
func withProject(project string, id *string) *string {
	if project != "" && *id != "" && !strings.Contains(*id, "/") {
		*id = project + "/" + *id
	}
	return id
}

// twinConfig: the twin as it shall be; what it refers to is in its own project.
func twinConfig[M any](twin func(M) *pb.Twin) func(any, *Principal) (Resource, error) {
	return func(m any, _ *Principal) (Resource, error) {
		msg, ok := m.(M)
		if !ok {
			return Resource{}, errWrongMessage
		}
		t := twin(msg)
		if t == nil {
			return Resource{}, invalid("twin", "is missing")
		}
		r, err := named("twin", "twin.id", &t.Id)
		if err == nil {
			err = sameProject(r.Project, "twin.zone", &t.Zone)
		}
		if err == nil {
			err = sameProject(r.Project, "twin.via", &t.Via)
		}
		if err == nil {
			err = sameProject(r.Project, "twin.model", &t.Model)
		}
		return r, err
	}
}

func systemConfig(m any, _ *Principal) (Resource, error) {
	msg, ok := m.(*pb.PutSystemRequest)
	if !ok {
		return Resource{}, errWrongMessage
	}
	s := msg.GetSystem()
	if s == nil {
		return Resource{}, invalid("system", "is missing")
	}
	r, err := named("system", "system.id", &s.Id)
	if err == nil {
		err = sameProject(r.Project, "system.zone", &s.Zone)
	}
	for _, member := range s.Members {
		if err == nil && member != nil {
			err = sameProject(r.Project, "system.members.twin", &member.Twin)
		}
	}
	return r, err
}

func placement(m any, _ *Principal) (Resource, error) {
	msg, ok := m.(*pb.GetPlacementRequest)
	if !ok {
		return Resource{}, errWrongMessage
	}
	if msg.Id == "" {
		return Resource{Project: Everywhere, Kind: "slot"}, nil
	}
	return named("twin", "id", &msg.Id)
}

func newKeyResource(m any, p *Principal) (Resource, error) {
	msg, ok := m.(*pb.CreateKeyRequest)
	if !ok {
		return Resource{}, errWrongMessage
	}
	k := msg.GetKey()
	if k == nil {
		return Resource{}, invalid("key", "is missing")
	}
	if k.Device != "" {
		r, err := named("key", "key.device", &k.Device)
		if err != nil {
			return Resource{}, err
		}
		if k.Project == "" {
			k.Project = r.Project
		}
	}
	return narrowed("key", &k.Project, p)
}

// inboxEntry: the entry that the request names, by its whole id.
func inboxEntry[M any](id func(M) string) func(any, *Principal) (Resource, error) {
	return func(m any, _ *Principal) (Resource, error) {
		msg, ok := m.(M)
		if !ok {
			return Resource{}, errWrongMessage
		}
		project, rest, ok := strings.Cut(id(msg), "/")
		if !ok || rest == "" || !validProject(project) {
			return Resource{}, invalid("id", "want PROJECT/NETWORK/KEY/VALUE")
		}
		return Resource{Project: project, Kind: "inbox", ID: id(msg)}, nil
	}
}

// claimed: the twin that is to be made, in the project of the entry.
func claimed(m any, p *Principal) (Resource, error) {
	msg, ok := m.(*pb.ClaimInboxRequest)
	if !ok {
		return Resource{}, errWrongMessage
	}
	entry, err := inboxEntry(func(m *pb.ClaimInboxRequest) string { return m.Id })(m, p)
	if err != nil {
		return Resource{}, err
	}
	if msg.Twin == nil {
		return Resource{}, invalid("twin", "is missing")
	}
	if !strings.Contains(msg.Twin.Id, "/") && msg.Twin.Id != "" {
		msg.Twin.Id = entry.Project + "/" + msg.Twin.Id
	}
	r, err := twinConfig(func(m *pb.ClaimInboxRequest) *pb.Twin { return m.Twin })(m, p)
	if err == nil && r.Project != entry.Project {
		err = invalid("twin.id", msg.Twin.Id+" is in another project than "+msg.Id)
	}
	return r, err
}
