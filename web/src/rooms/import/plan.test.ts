import { expect, test } from "vitest";

import { ConfigRecordSchema } from "../../gen/pollux/v1/bulk_pb";
import { groups, guess, kinds, read, write } from "./plan";

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
  const plan = read("all.yaml", yaml, "p", "twin");
  expect(plan.misread).toEqual([]);
  expect(plan.each).toBe(false);
  expect(plan.lines.map((l) => `${l.line} ${l.kind} ${l.id} ${l.depth}`)).toEqual([
    "11 model p/meter 0", "3 zone p/hq 0", "1 zone p/aula 1", "5 twin p/meter-1 0",
  ]);
  expect(plan.lines.at(-1)?.refs).toEqual(["model/p/meter", "zone/p/aula"]);
  expect(groups(plan.lines).map((g) => g.length)).toEqual([1, 1, 1, 1]);
  const again = read("b.yaml", write(plan.lines.map((l) => l.record)), "p", "twin");
  expect(again.lines.map((l) => l.record)).toEqual(plan.lines.map((l) => l.record));
});

test("what cannot be read says its line and why, and the rest is read", () => {
  const plan = read("x.yml", "zone: {id: a}\n---\nzone: {id: b, colour: red}\n---\nhouse: {}\n---\nzone: {id: a}\n", "p", "twin");
  expect(plan.lines.map((l) => l.id)).toEqual(["p/a"]);
  expect(plan.misread.map((m) => m.line)).toEqual([3, 5, 7]);
  expect(plan.misread[0]?.text).toContain("colour");
  expect(plan.misread[1]?.text).toContain("want one of model, zone");
  expect(plan.misread[2]?.text).toBe("zone p/a is in line 1 already");
});

test("lines of CSV become twins", () => {
  const text = 'id,driver,labels.floor,settings.port,settings.name,aliases,stopped\nb1,pjlink,2,4352,"Hall, big",lora:eui:7:0;x:y:z,yes\nb2,pjlink\nb3,pjlink,,,,,maybe\n\n"b\n4",pjlink,,,,,\nb5,,,,,,,\n';
  expect(guess(text)).toBe("twin");
  const plan = read("lamps.csv", text, "p", "twin");
  expect(plan.each).toBe(true);
  expect(plan.lines.map((l) => l.line)).toEqual([2, 6]);
  expect(plan.lines[0]?.record.record.value).toMatchObject({
    id: "b1", driver: "pjlink", stopped: true, labels: { floor: "2" }, settings: { port: 4352, name: "Hall, big" },
    aliases: [{ network: "lora", key: "eui", value: "7:0" }, { network: "x", key: "y", value: "z" }],
  });
  expect(plan.misread.map((m) => `${m.line}: ${m.text}`)).toEqual(["3: 2 cells, and 7 columns are named", '4: stopped: "maybe": want true or false', "8: 8 cells, and 7 columns are named"]);
});

test("a column that nothing is made of is told of", () => {
  expect(guess("id,parent,kind")).toBe("zone");
  expect(guess("id,members")).toBe("system");
  expect(read("z.csv", "id,colour\na,red\n", "p", "zone").misread[0]?.text).toBe('column "colour": want id, parent, kind, title');
  expect(read("z.csv", "name\na\n", "p", "zone").misread[0]?.text).toContain("no column is called id");
});

test("there is no kind of record that a file cannot have", () => {
  expect([...kinds].sort()).toEqual(ConfigRecordSchema.oneofs[0]?.fields.map((f) => f.name).sort());
});

test("what is named comes before who names it", () => {
  const plan = read(
    "all.yaml",
    `rule: {id: hot, when: [{topic: {topic: changes}}], then: [{notify: {notifier: people}}]}
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
    "twin",
  );
  expect(plan.misread).toEqual([]);
  expect(plan.lines.map((l) => `${l.kind} ${l.refs.join(" ")}`)).toEqual([
    "topic ", "notifier twin/p/pager", "rule notifier/p/people", "sink topic/p/changes", "detector twin/p/meter-1",
  ]);
});
