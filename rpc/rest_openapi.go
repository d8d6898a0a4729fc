package rpc

import (
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// messageOf is a body that is a message of the API.
func messageOf(m proto.Message) *restContent {
	return &restContent{schema: map[string]any{"$ref": schemaPath + string(m.ProtoReflect().Descriptor().Name())}, message: m.ProtoReflect().Descriptor()}
}

const schemaPath = "#/components/schemas/"

// openapi answers with the description of the routes.
func (c *restCall) openapi() error { return c.json(http.StatusOK, openAPI(restRoutes())) }

// openAPI describes a table of routes, by OpenAPI 3.1.
func openAPI(routes []restRoute) map[string]any {
	d := &apiDescription{schemas: map[string]any{"Problem": problemSchema()}}
	paths := map[string]map[string]any{}
	for i := range routes {
		r := &routes[i]
		path, names := openPath(r.path)
		if paths[path] == nil {
			paths[path] = map[string]any{}
			if len(names) > 0 {
				paths[path]["parameters"] = pathParams(names)
			}
		}
		paths[path][strings.ToLower(r.method)] = d.operation(r)
	}
	return map[string]any{
		"openapi": "3.1.0",
		"info": map[string]any{"title": "Pollux", "version": "1", "summary": "Twins by plain HTTP",
			"description": "Each operation is one of the Connect API's, with the same keys, rights and limits."},
		"servers":  []any{map[string]any{"url": "/"}},
		"security": []any{map[string]any{"key": []string{}}, map[string]any{"session": []string{}}},
		"paths":    paths,
		"components": map[string]any{
			"schemas": d.schemas,
			"securitySchemes": map[string]any{
				"key":     map[string]any{"type": "http", "scheme": "bearer", "description": "An API key, plx_…"},
				"session": map[string]any{"type": "apiKey", "in": "cookie", "name": SessionCookie, "description": "The console's session, from its own pages only."},
			},
			"responses": map[string]any{"Problem": map[string]any{"description": "What is wrong (RFC 9457)",
				"content": map[string]any{problemType: map[string]any{"schema": map[string]any{"$ref": schemaPath + "Problem"}}}}},
		},
	}
}

var pathName = regexp.MustCompile(`\{([a-z]+)(\.\.\.)?\}`)

// openPath gives a pattern of the mux as OpenAPI writes it, and the names in it.
func openPath(path string) (string, []string) {
	var names []string
	for _, m := range pathName.FindAllStringSubmatch(path, -1) {
		names = append(names, m[1])
	}
	return strings.ReplaceAll(path, "...", ""), names
}

// pathSchemas of what stands in paths.
var pathSchemas = map[string]map[string]any{
	"project":  {"type": "string", "pattern": "^[a-z0-9][a-z0-9_-]{0,63}$"},
	"name":     {"type": "string", "pattern": "^[a-z0-9][a-z0-9._-]{0,127}$"},
	"property": {"type": "string", "maxLength": 128},
	"action":   {"type": "string", "maxLength": 128},
	"event":    {"type": "string", "maxLength": 128},
}

func pathParams(names []string) []any {
	out := []any{}
	for _, name := range names {
		schema := pathSchemas[name]
		if schema == nil {
			schema = stringSchema
		}
		out = append(out, map[string]any{"name": name, "in": "path", "required": true, "schema": schema})
	}
	return out
}

// apiDescription gathers the schemas that operations name.
type apiDescription struct{ schemas map[string]any }

func (d *apiDescription) operation(r *restRoute) map[string]any {
	op := map[string]any{"operationId": r.id, "summary": r.summary}
	if r.text != "" {
		op["description"] = r.text
	}
	if len(r.params) > 0 {
		params := make([]any, len(r.params))
		for i := range r.params {
			params[i] = r.params[i].describe()
		}
		op["parameters"] = params
	}
	if r.body != nil {
		body := map[string]any{"description": r.body.text, "content": d.content(r.body)}
		if r.body.needed {
			body["required"] = true
		}
		op["requestBody"] = body
	}
	responses := map[string]any{"default": map[string]any{"$ref": "#/components/responses/Problem"}}
	for _, a := range r.answers {
		res := map[string]any{"description": a.text}
		if a.content != nil {
			res["content"] = d.content(a.content)
		}
		if len(a.headers) > 0 {
			headers := map[string]any{}
			for name, text := range a.headers {
				headers[name] = map[string]any{"description": text, "schema": stringSchema}
			}
			res["headers"] = headers
		}
		responses[strconv.Itoa(a.status)] = res
	}
	op["responses"] = responses
	return op
}

func (p *restParam) describe() map[string]any {
	schema, in := p.schema, "query"
	if p.header {
		in = "header"
	}
	if p.many {
		schema = map[string]any{"type": "array", "items": schema}
	}
	out := map[string]any{"name": p.name, "in": in, "description": p.text, "schema": schema}
	if p.needed {
		out["required"] = true
	}
	return out
}

func (d *apiDescription) content(c *restContent) map[string]any {
	if c.message != nil {
		d.add(c.message)
	}
	for _, m := range c.also {
		d.add(m.ProtoReflect().Descriptor())
	}
	kind := c.kind
	if kind == "" {
		kind = jsonType
	}
	out := map[string]any{kind: map[string]any{"schema": c.schema}}
	if c.stream != nil {
		out[streamType] = map[string]any{"schema": c.stream}
	}
	return out
}

// add describes a message as protobuf's JSON has it, with all that it holds.
func (d *apiDescription) add(m protoreflect.MessageDescriptor) {
	name := string(m.Name())
	if d.schemas[name] != nil {
		return
	}
	props := map[string]any{}
	d.schemas[name] = map[string]any{"type": "object", "properties": props}
	for i := range m.Fields().Len() {
		f := m.Fields().Get(i)
		props[f.JSONName()] = d.field(f)
	}
}

func (d *apiDescription) field(f protoreflect.FieldDescriptor) map[string]any {
	switch {
	case f.IsMap():
		return map[string]any{"type": "object", "additionalProperties": d.single(f.MapValue())}
	case f.IsList():
		return map[string]any{"type": "array", "items": d.single(f)}
	}
	return d.single(f)
}

// wellKnown messages have a JSON of their own.
var wellKnown = map[protoreflect.FullName]map[string]any{
	"google.protobuf.Timestamp": {"type": "string", "format": "date-time"},
	"google.protobuf.Duration":  {"type": "string", "pattern": `^-?[0-9]+(\.[0-9]+)?s$`},
	"google.protobuf.Struct":    {"type": "object"},
	"google.protobuf.ListValue": {"type": "array"},
	"google.protobuf.Value":     {"description": "Any value of JSON."},
}

func (d *apiDescription) single(f protoreflect.FieldDescriptor) map[string]any {
	switch f.Kind() {
	case protoreflect.MessageKind, protoreflect.GroupKind:
		if s := wellKnown[f.Message().FullName()]; s != nil {
			return s
		}
		d.add(f.Message())
		return map[string]any{"$ref": schemaPath + string(f.Message().Name())}
	case protoreflect.EnumKind:
		var names []string
		for i := range f.Enum().Values().Len() {
			names = append(names, string(f.Enum().Values().Get(i).Name()))
		}
		return map[string]any{"type": "string", "enum": names}
	case protoreflect.BoolKind:
		return boolSchema
	case protoreflect.StringKind:
		return stringSchema
	case protoreflect.BytesKind:
		return map[string]any{"type": "string", "contentEncoding": "base64"}
	case protoreflect.FloatKind, protoreflect.DoubleKind:
		return map[string]any{"type": "number"}
	case protoreflect.Int64Kind, protoreflect.Sint64Kind, protoreflect.Sfixed64Kind, protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		// JSON's numbers are no exact integers of 64 bits.
		return map[string]any{"type": "string", "pattern": "^-?[0-9]+$"}
	}
	return map[string]any{"type": "integer"}
}

func problemSchema() map[string]any {
	texts := map[string]string{"title": "The status's phrase", "detail": "What is wrong", "instance": "The path that was asked",
		"code": "What kind of error, as in the Connect API", "reason": "What to branch on", "path": "What is wrong in the request",
		"hint": "What to do about it", "outcome": "Of a command: rejected, timed_out, or unknown"}
	props := map[string]any{"status": map[string]any{"type": "integer"}, "driver_code": map[string]any{"type": "integer", "description": "The driver's own error"}}
	for _, name := range slices.Sorted(maps.Keys(texts)) {
		props[name] = map[string]any{"type": "string", "description": texts[name]}
	}
	return map[string]any{"type": "object", "properties": props, "required": []string{"title", "status", "detail", "instance", "code", "reason"}}
}
