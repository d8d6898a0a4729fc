package rpc

import (
	"fmt"
	"net/http"

	"connectrpc.com/grpcreflect"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	rpcv1 "github.com/polluxhq/pollux/proto/pollux/v1/polluxv1connect"
)

const twinPath = "/v1/twins/{project}/{name}"

// restRoutes is the table.
func restRoutes() []restRoute {
	routes := append(twinRoutes(), wotRoutes()...)
	return append(routes, walkRoute(), searchRoute(), restRoute{method: http.MethodGet, path: "/openapi.json", id: "openapi", summary: "This description",
		procedure: "/" + grpcreflect.ReflectV1ServiceName + "/ServerReflectionInfo", serve: (*restCall).openapi,
		answers: []restAnswer{{status: 200, text: "OpenAPI 3.1", content: &restContent{schema: map[string]any{"type": "object"}}}}})
}

// twinRoutes are those of twins.
func twinRoutes() []restRoute {
	return []restRoute{
		{method: http.MethodGet, path: "/v1/twins", id: "listTwins", summary: "List twins, by pages",
			text:      "The header Link names the next page, where there is one.",
			procedure: rpcv1.TwinServiceListTwinsProcedure, serve: (*restCall).listTwins,
			params:  append(append(filterParams(), pageParams("twins", 1000, 100)...), restParam{name: "state", text: "Include each twin's state as last committed.", schema: boolSchema}),
			answers: []restAnswer{{status: 200, text: "A page of twins", content: messageOf(&pb.ListTwinsResponse{}), headers: linkHeader}}},
		{method: http.MethodGet, path: twinPath, id: "getTwin", summary: "Configuration and state of a twin",
			procedure: rpcv1.TwinServiceGetTwinProcedure, serve: (*restCall).getTwin,
			params:  []restParam{consistencyParam, {name: "model", text: "Include the Thing Model as refined by what the device really has.", schema: boolSchema}},
			answers: []restAnswer{{status: 200, text: "The twin", content: messageOf(&pb.Twin{})}}},
		{method: http.MethodGet, path: twinPath + "/properties", id: "getProperties", summary: "Values of all properties",
			text:      "Asked with Accept: text/event-stream: all values at first, then what changes.",
			procedure: rpcv1.TwinServiceGetTwinProcedure, serve: (*restCall).getProperties,
			params:  []restParam{detailParam, consistencyParam},
			answers: []restAnswer{{status: 200, text: "Values by name", content: &restContent{schema: valuesSchema, stream: valuesSchema}}}},
		{method: http.MethodGet, path: twinPath + "/properties/{property}", id: "getProperty", summary: "Value of a property",
			text: "The body is the value alone. Asked with Accept: text/event-stream: the value now and each later one; an id per value, so that " +
				"who comes back with Last-Event-ID is told the value only if it is another one, with detail in any case.",
			procedure: rpcv1.TwinServiceGetTwinProcedure, serve: (*restCall).getProperty,
			params: []restParam{detailParam, consistencyParam, lastEventParam},
			answers: []restAnswer{{status: 200, text: "The value", content: &restContent{schema: anySchema, stream: anySchema},
				headers: map[string]string{"Pollux-Time": "When the device said so", "Pollux-Quality": "good, stale or bad"}}}},
		{method: http.MethodPut, path: twinPath + "/properties/{property}", id: "setProperty", summary: "Ask for a value of a property",
			text:      "Answered when what is asked is committed; with wait, when the device has confirmed it.",
			procedure: rpcv1.TwinServiceSetDesiredProcedure, serve: (*restCall).putProperty,
			params: append([]restParam{
				{name: "wait", text: "Wait so long for the device to confirm, such as 10s; 10m at most.", schema: durationSchema},
				{name: "valid_for", text: "After this, what was not confirmed is given up.", schema: durationSchema}}, commandParams()...),
			body: &restContent{text: "The value", schema: anySchema, needed: true},
			answers: []restAnswer{{status: 200, text: "The device has confirmed it", content: messageOf(&pb.Desired{})},
				{status: 202, text: "It is committed, and not confirmed yet", content: messageOf(&pb.Desired{})}}},
		{method: http.MethodPost, path: twinPath + "/actions/{action}", id: "invokeAction", summary: "Invoke an action",
			text:      "Where it fails, the problem's member outcome says whether the device may have done it.",
			procedure: rpcv1.TwinServiceInvokeProcedure, serve: (*restCall).invoke,
			params: append([]restParam{
				{name: "Idempotency-Key", header: true, text: "Calls with one key run once.", schema: map[string]any{"type": "string", "maxLength": 128}},
				{name: "no_wait", text: "Answer as soon as the command is committed to the queue.", schema: boolSchema},
				{name: "no_answer", text: "It is done as soon as it is sent.", schema: boolSchema},
				{name: "valid_for", text: "How long it may wait before it begins.", schema: durationSchema},
				{name: "pause", text: "The next command begins so long after this one has ended.", schema: durationSchema},
				{name: "clear", text: "When it has ended, what waits in the queue is rejected.", schema: boolSchema}}, commandParams()...),
			body: &restContent{text: "The input; empty where the action takes none", schema: anySchema},
			answers: []restAnswer{{status: 200, text: "The output", content: &restContent{schema: anySchema}, headers: outcomeHeader},
				{status: 202, text: "It is in the queue (no_wait)", headers: outcomeHeader, content: &restContent{schema: map[string]any{"type": "object",
					"properties": map[string]any{"outcome": stringSchema, "commandId": stringSchema}, "required": []string{"outcome", "commandId"}}}},
				{status: 204, text: "Done, without an output", headers: outcomeHeader}}},
		{method: http.MethodGet, path: twinPath + "/events", id: "streamEvents", summary: "All events of a twin, as they come",
			procedure: rpcv1.TwinServiceWatchTwinsProcedure, serve: (*restCall).events, params: []restParam{lastEventParam},
			answers: []restAnswer{{status: 200, text: "Events until the client goes", content: &restContent{kind: streamType, schema: eventSchema}}}},
		{method: http.MethodGet, path: twinPath + "/events/{event}", id: "streamEvent", summary: "Events of one name, as they come",
			procedure: rpcv1.TwinServiceWatchTwinsProcedure, serve: (*restCall).events, params: []restParam{lastEventParam},
			answers: []restAnswer{{status: 200, text: "The data of each event", content: &restContent{kind: streamType, schema: anySchema}}}},
		{method: http.MethodGet, path: twinPath + "/history", id: "queryHistory", summary: "Past values of a property",
			procedure: rpcv1.TwinServiceQueryHistoryProcedure, serve: (*restCall).history,
			params: []restParam{{name: "property", text: "Whose values.", schema: stringSchema, needed: true},
				{name: "start", text: "A time, or how long ago, such as -2h. Else an hour before the end.", schema: stringSchema},
				{name: "end", text: "A time, or how long ago. Else now.", schema: stringSchema},
				{name: "step", text: "One value for each step, such as 5m. Else the samples as they are stored.", schema: durationSchema},
				{name: "aggregate", text: "How a step's samples become one value: avg (as where it is not given), min, max, sum, count, dev, first, last, delta, rate, p0 to p100.", schema: stringSchema},
				{name: "fill", text: "What a step without samples gets: none (it is left out), null, previous, linear.", schema: stringSchema},
				{name: "unit", text: "The values in this unit, UCUM or QUDT.", schema: stringSchema},
				{name: "page_token", text: "The nextPageToken of the page before: raw samples go on with older ones.", schema: stringSchema},
				{name: "limit", text: "At most so many; 10,000 where it is not given.", schema: upTo(100_000)}},
			answers: []restAnswer{{status: 200, text: "The samples", content: messageOf(&pb.QueryHistoryResponse{}), headers: linkHeader}}},
	}
}

var (
	anySchema      = map[string]any{"description": "Any value of JSON, as the twin's model has it."}
	boolSchema     = map[string]any{"type": "boolean"}
	stringSchema   = map[string]any{"type": "string"}
	durationSchema = map[string]any{"type": "string", "description": "A duration such as 500ms, 10s or 2h; a bare number means seconds.",
		"examples": []string{"10s"}}
	valuesSchema = map[string]any{"type": "object", "additionalProperties": anySchema}
	eventSchema  = map[string]any{"type": "object", "required": []string{"name", "time", "data"},
		"properties": map[string]any{"name": stringSchema, "time": map[string]any{"type": "string", "format": "date-time"}, "data": anySchema}}

	detailParam      = restParam{name: "detail", text: "With time, quality, and what is asked of it, instead of the bare value.", schema: boolSchema}
	consistencyParam = restParam{name: "consistency", text: "local: the state as last committed that the node which answers has, also while the " +
		"twin's own node cannot be reached.", schema: map[string]any{"type": "string", "enum": []string{"owner", "local"}}}
	lastEventParam = restParam{name: "Last-Event-ID", header: true, text: "What an event source received last.", schema: stringSchema}

	linkHeader    = map[string]string{"Link": "The next page, as rel=\"next\""}
	outcomeHeader = map[string]string{"Pollux-Outcome": "done, or queued"}
)

// upTo is a whole number.
func upTo(most int) map[string]any {
	return map[string]any{"type": "integer", "minimum": 0, "maximum": most}
}

func filterParams() []restParam {
	return []restParam{
		{name: "project", text: "Only of this project. Else of all that the key may read.", schema: stringSchema},
		{name: "label", text: "KEY=VALUE; all that are given must hold.", schema: stringSchema, many: true},
		{name: "driver", text: "Name of the driver, without version.", schema: stringSchema},
		{name: "model", text: "Title of the model.", schema: stringSchema},
		{name: "interface", text: "A standard interface of the driver, such as Powerable.", schema: stringSchema},
		{name: "zone", text: "Id of a zone: twins in it, and in those below it.", schema: stringSchema},
		{name: "system", text: "Id of the system.", schema: stringSchema},
		{name: "connection", text: "Only twins with this connection.", schema: map[string]any{"type": "string",
			"enum": []string{"none", "connecting", "connected", "disconnected", "stopped", "sleeping"}}},
		{name: "faulty", text: "Only twins with a fault.", schema: boolSchema},
		{name: "where", text: "Only twins for which this expression holds, such as twin.properties.power == \"on\" (docs/expressions.md).", schema: stringSchema},
		{name: "text", text: "Part of the id.", schema: stringSchema},
	}
}

// pageParams are those of a list by pages of up to most, and of usual where nobody says how many.
func pageParams(what string, most, usual int) []restParam {
	return []restParam{
		{name: "page_size", text: fmt.Sprintf("At most so many %s; %d where it is not given.", what, usual), schema: upTo(most)},
		{name: "page_token", text: "The nextPageToken of the page before.", schema: stringSchema},
	}
}

func commandParams() []restParam {
	return []restParam{
		{name: "timeout", text: "Of the driver's call and the device's answer; 5 s where it is not given.", schema: durationSchema},
		{name: "priority", text: "1 to 100, higher first; 50 where it is not given.", schema: upTo(100)},
		{name: "retries", text: "Tries after the first, for errors that may pass.", schema: upTo(100)},
		{name: "delay", text: "Wait before it is sent.", schema: durationSchema},
		{name: "queue", text: "A newer command of the same name replaces the one that waits.", schema: stringSchema},
	}
}
