import { expect, test } from "vitest";

import { ConfigRecordSchema } from "../../gen/pollux/v1/bulk_pb";
import { groups, kinds, read, write } from "./plan";

const yaml = `zone: {id: aula, parent: hq, kind: room}
---
zone: {id: hq, kind: building}
---
twin:
  id: meter-1
  model: meter
  zone: aula
  labels: {floor: "2"}
---
model:
  id: meter
  thing: {"@type": tm:ThingModel, title: Meter}
`;

test("YAML documents become records, in an order in which they can be applied", () => {
  const plan = read("all.yaml", yaml, "p");
  expect(plan.misread).toEqual([]);
  expect(plan.list).toBeUndefined();
  expect(plan.lines.map((l) => `${l.line} ${l.kind} ${l.id} ${l.depth}`)).toEqual([
    "11 model p/meter 0", "3 zone p/hq 0", "1 zone p/aula 1", "5 twin p/meter-1 0",
  ]);
  expect(plan.lines.at(-1)?.refs).toEqual(["model/p/meter", "zone/p/aula"]);
  expect(groups(plan.lines).map((g) => g.length)).toEqual([1, 1, 1, 1]);
  const again = read("b.yaml", write(plan.lines.map((l) => l.record)), "p");
  expect(again.lines.map((l) => l.record)).toEqual(plan.lines.map((l) => l.record));
});

test("what cannot be read says its line and why, and the rest is read", () => {
  const plan = read("x.yml", "zone: {id: a}\n---\nzone: {id: b, colour: red}\n---\nhouse: {}\n---\nzone: {id: a}\n", "p");
  expect(plan.lines.map((l) => l.id)).toEqual(["p/a"]);
  expect(plan.misread.map((m) => m.line)).toEqual([3, 5, 7]);
  expect(plan.misread[0]?.text).toContain("colour");
  expect(plan.misread[1]?.text).toContain("want one of model, zone");
  expect(plan.misread[2]?.text).toBe("zone p/a is in line 1 already");
});

test("a list has a column for whatever a twin or a zone has", () => {
  const twin = { id: "l1", driver: "porter", system: "hall", derived: { mean: "avg(1.0, 2.0)" }, reads: [{ topic: "orders", channel: "desk" }, { topic: "bills" }] };
  const csv = read("l.csv", 'id,driver,system,derived.mean,reads\nl1,porter,hall,"avg(1.0, 2.0)",orders=desk;bills\n', "p");
  const list = read("l.yaml", "- {id: l1, driver: porter, system: hall, derived: {mean: 'avg(1.0, 2.0)'}, reads: [orders=desk, bills]}\n", "p");
  for (const plan of [csv, list]) {
    expect(plan.misread).toEqual([]);
    expect(plan.lines[0]?.record.record.value).toMatchObject(twin);
  }
  const zones = read("z.csv", 'id,place\nhq,"52.52,13.41"\nhut,here\n', "p");
  expect(zones.list).toBe("zone");
  expect(zones.lines[0]?.record.record.value).toMatchObject({ id: "hq", place: { latitude: 52.52, longitude: 13.41 } });
  expect(zones.misread[0]?.text).toContain("is no place");
});

test("lines of CSV become twins", () => {
  const text = 'id,driver,labels.floor,settings.port,settings.name,aliases,stopped\nb1,pjlink,2,4352,"Hall, big",lora:eui:7:0;x:y:z,yes\nb2,pjlink\nb3,pjlink,,,,,maybe\n\n"b\n4",pjlink,,,,,\nb5,,,,,,,\n';
  const plan = read("lamps.csv", text, "p");
  expect(plan.list).toBe("twin");
  expect(plan.lines.map((l) => l.line)).toEqual([2, 6]);
  expect(plan.lines[0]?.record.record.value).toMatchObject({
    id: "b1", driver: "pjlink", stopped: true, labels: { floor: "2" }, settings: { port: 4352, name: "Hall, big" },
    aliases: [{ network: "lora", key: "eui", value: "7:0" }, { network: "x", key: "y", value: "z" }],
  });
  expect(plan.misread.map((m) => `${m.line}: ${m.text}`)).toEqual(["3: 2 cells, and 7 columns are named", '4: stopped: "maybe": want true or false', "8: 8 cells, and 7 columns are named"]);
});

const list = `- {id: 007, driver: pjlink, labels: {floor: 02}, settings: {port: 4352, tags: [a, b]}, aliases: [lora:eui:7, "x:y:z"]}
- {id: b, colour: red}
- {id: c, uri: {a: 1}}
- id: d
  id: e
- text
- {driver: pjlink, zone: ~}
`;

test("items of a YAML list become records as the lines of CSV do", () => {
  const plan = read("lamps.yaml", list, "p");
  expect(plan.list).toBe("twin");
  expect(plan.lines.map((l) => `${l.line} ${l.id}`)).toEqual(["1 p/007"]);
  expect(plan.lines[0]?.record.record.value).toMatchObject({
    driver: "pjlink", labels: { floor: "02" }, settings: { port: 4352, tags: ["a", "b"] },
    aliases: [{ network: "lora", key: "eui", value: "7" }, { network: "x", key: "y", value: "z" }],
  });
  expect(plan.misread.map((m) => m.line)).toEqual([2, 3, 4, 6, 7]);
  expect(plan.misread.map((m) => m.text.split(":")[0])).toEqual(["colour", "uri", "id is there twice", "is no mapping of fields", "id is empty"]);
  const systems = read("s.yaml", "- {id: room, members: {Lamp_1: b1, Lamp_2: b2}}\n---\n- {id: hall, members: [Lamp_1=b3]}\n", "p");
  expect(systems.list).toBe("system");
  expect(systems.lines.map((l) => l.refs.join(" "))).toEqual(["twin/p/b1 twin/p/b2", "twin/p/b3"]);
  const anchors = read("a.yaml", "- {id: a, uri: &u tcp://x, labels: &l {floor: 2}, settings: {to: &t [1, 2]}}\n- {id: b, uri: *u, labels: *l, settings: {to: *t, all: {to: *t}}}\n", "p");
  expect(anchors.misread).toEqual([]);
  expect(anchors.lines[1]?.record.record.value).toMatchObject({ uri: "tcp://x", labels: { floor: "2" }, settings: { to: [1, 2], all: { to: [1, 2] } } });
  expect(read("m.yaml", "- {id: a}\n---\nzone: {id: b}\n", "p").misread[0]?.text).toContain("is no list");
});

test("a list of aliases, CSV or YAML, gives each to its twin", () => {
  const plan = read("a.csv", "network,key,value,twin\nlora,eui,007,meter-1\nlora,eui,,meter-2\nlora,eui,007,meter-3\n", "p");
  expect(plan.list).toBe("alias");
  expect(plan.lines.map((l) => `${l.kind} ${l.id}`)).toEqual(["alias p/lora/eui/007"]);
  expect(plan.lines[0]?.record.record.value).toMatchObject({ id: "meter-1", aliases: [{ network: "lora", key: "eui", value: "007" }] });
  expect(plan.misread.map((m) => m.text)).toEqual(["value is empty", "alias p/lora/eui/007 is in line 2 already"]);
  expect(read("a.csv", "network,key,value\n", "p").misread[0]?.text).toContain("no column is called twin");
  const again = read("a.yml", "- {network: lora, key: eui, value: 007, twin: meter-1}\n", "p");
  expect(again.lines[0]?.record).toEqual(plan.lines[0]?.record);
  expect(again.list).toBe("alias");
});

test("a column that nothing is made of is told of", () => {
  expect(read("z.csv", "id,parent,kind\n", "p").list).toBe("zone");
  expect(read("z.csv", "id,members\n", "p").list).toBe("system");
  expect(read("z.csv", "id,uri,id\n", "p").misread[0]?.text).toBe('column "id" is named twice');
  expect(read("z.csv", "id,colour\na,red\n", "p", "zone").misread[0]?.text).toBe('column "colour": want id, parent, kind, title, place');
  expect(read("z.csv", "name\na\n", "p", "zone").misread[0]?.text).toContain("no column is called id");
});

test("there is no kind of record that a file cannot have", () => {
  expect([...kinds].sort()).toEqual(ConfigRecordSchema.oneofs[0]?.fields.map((f) => f.name).sort());
});

test("what is named comes before who names it", () => {
  const plan = read(
    "all.yaml",
    `rule: {id: hot, when: [{topic: {topic: changes}}], then: [{raise: {text: x, escalate: [{actions: [{notify: {notifier: people}}]}]}}]}
---
route: {id: all, topics: [changes], run: pager}
---
twin: {id: pager, driver: pager, reads: [{topic: changes}]}
---
detector: {id: odd, property: power, of: {twins: [meter-1]}}
---
sink: {id: lake, topic: changes}
---
notifier: {id: people, logic: {logic: pager}}
---
topic: {id: changes}
`,
    "p",
  );
  expect(plan.misread).toEqual([]);
  expect(plan.lines.map((l) => `${l.kind} ${l.refs.join(" ")}`)).toEqual([
    "topic ", "twin topic/p/changes", "route topic/p/changes twin/p/pager", "notifier twin/p/pager", "rule notifier/p/people", "sink topic/p/changes", "detector twin/p/meter-1",
  ]);
});
