import { Code, ConnectError, createClient, type Interceptor } from "@connectrpc/connect";
import { createConnectTransport } from "@connectrpc/connect-web";

import { AliasService } from "../gen/pollux/v1/alias_pb";
import { AnalyticsService } from "../gen/pollux/v1/analytics_pb";
import { AutomationService } from "../gen/pollux/v1/automation_pb";
import { BulkService } from "../gen/pollux/v1/bulk_pb";
import { ClusterService, WatchService } from "../gen/pollux/v1/cluster_pb";
import { DriverService } from "../gen/pollux/v1/driver_pb";
import { HistoryService } from "../gen/pollux/v1/history_pb";
import { IngestService } from "../gen/pollux/v1/ingest_pb";
import { LogicService } from "../gen/pollux/v1/logic_pb";
import { ModelService } from "../gen/pollux/v1/model_pb";
import { NotifierService } from "../gen/pollux/v1/notify_pb";
import { ProjectService } from "../gen/pollux/v1/project_pb";
import { SearchService } from "../gen/pollux/v1/search_pb";
import { RelationService } from "../gen/pollux/v1/relation_pb";
import { SettingsService } from "../gen/pollux/v1/settings_pb";
import { SimulationService } from "../gen/pollux/v1/simulation_pb";
import { SinkService } from "../gen/pollux/v1/sink_pb";
import { SiteService } from "../gen/pollux/v1/site_pb";
import { SourceService } from "../gen/pollux/v1/source_pb";
import { TopicService } from "../gen/pollux/v1/topic_pb";
import { TwinService } from "../gen/pollux/v1/twin_pb";
import { explain, unanswered } from "./errors";
import { report } from "./link";
import { key, signedOut } from "./session";

const authorize: Interceptor = (next) => async (request) => {
  const kept = key();
  if (kept) request.header.set("Authorization", `Bearer ${kept}`);
  try {
    const answer = await next(request);
    report("calls", null);
    return answer;
  } catch (error) {
    const { code } = ConnectError.from(error);
    if (code === Code.Unauthenticated) signedOut();
    // Streams tell for themselves how they stand; a room without one has only its calls to go by.
    if (!request.stream && unanswered(error)) report("calls", { state: "offline", error: explain(error) });
    throw error;
  }
};

/** Connect over the page's own origin, binary: a full table of twins is mostly numbers and times. */
export const transport = createConnectTransport({
  baseUrl: window.location.origin,
  useBinaryFormat: true,
  interceptors: [authorize],
});

export const twins = createClient(TwinService, transport);
export const drivers = createClient(DriverService, transport);
export const models = createClient(ModelService, transport);
export const cluster = createClient(ClusterService, transport);
export const settings = createClient(SettingsService, transport);
export const sites = createClient(SiteService, transport);
export const records = createClient(WatchService, transport);
export const projects = createClient(ProjectService, transport);
export const aliases = createClient(AliasService, transport);
export const ingest = createClient(IngestService, transport);
export const topics = createClient(TopicService, transport);
export const bulk = createClient(BulkService, transport);
export const search = createClient(SearchService, transport);
export const relations = createClient(RelationService, transport);
export const notifiers = createClient(NotifierService, transport);
export const analytics = createClient(AnalyticsService, transport);
export const logics = createClient(LogicService, transport);
export const automation = createClient(AutomationService, transport);
export const simulations = createClient(SimulationService, transport);
export const sinks = createClient(SinkService, transport);
export const sources = createClient(SourceService, transport);
export const history = createClient(HistoryService, transport);
