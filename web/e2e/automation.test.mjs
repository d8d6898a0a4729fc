// Rules, schedules and alarms in the browser: a rule is written, fires and says why; its alarm is acknowledged; it rests; a
// schedule says when it is due. What the page did is compared with what the command line says of the same node.
import assert from "node:assert/strict";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before } from "node:test";

import { parse } from "yaml";

import { picture, story } from "./browser.mjs";
import { house } from "./house.mjs";
import { until } from "./node.mjs";

let h, page;

const test = story(() => ({ page, complaints: h?.complaints, output: h?.node.output() }));

const model = {
  "@context": ["https://www.w3.org/2022/wot/td/v1.1", { pollux: "https://pollux.dev/ns#" }],
  "@type": "tm:ThingModel",
  title: "Room sensor",
  properties: { temperature: { type: "number", unit: "Cel", readOnly: true }, fan: { type: "boolean", "pollux:virtual": true } },
};

before(async () => {
  h = await house();
  page = h.page;
  await writeFile(join(h.dir, "room.json"), JSON.stringify(model));
  await h.cli("model", "create", "room", "--file", join(h.dir, "room.json"));
  await h.cli("twin", "create", "lobby", "--model", "room");
});

after(() => h?.close());

const region = (name) => page.getByRole("region", { name, exact: true });
const text = () => page.getByRole("textbox", { name: "YAML or JSON" });
const json = async (...words) => JSON.parse(await h.cli(...words, "-o", "json"));

const rule = (condition) => `id: default/too-hot
when: [{property: {of: {twins: [lobby]}, names: [temperature]}}]
if: ${condition}
until: value < 26.0
then: [{raise: {severity: ALARM_SEVERITY_ERROR, text: "it is \${value} degrees"}}]
otherwise: [{clear: {}}]
`;

test("a rule is written as text; the node says what is wrong with it", async () => {
  await page.getByRole("navigation", { name: "Rooms", exact: true }).getByRole("link", { name: "Rules", exact: true }).click();
  await page.getByRole("button", { name: "New rule" }).click();
  await page.getByText("Text", { exact: true }).click();
  await text().fill(rule("valu > 28.0"));
  await page.getByRole("button", { name: "Create" }).click();
  await page.getByRole("alert").filter({ hasText: "valu" }).waitFor();
  await text().fill(rule("value > 28.0"));
  await page.getByRole("button", { name: "Create" }).click();
  await region("Rule default/too-hot").waitFor();
  assert.match(await h.cli("rule", "list"), /too-hot/);
});

test("it says what it names and is not there", async () => {
  await h.cli("rule", "put", "nobody", "--on", "lobby.temprature", "--set", "nobody.fan=on");
  await page.goto(`${h.url}/rules?rule=default/nobody`);
  const notes = region("Rule default/nobody").getByRole("list", { name: "Not there at present" });
  await notes.getByText("default/lobby has no property temprature; did you mean temperature?").waitFor();
  await notes.getByText("there is no twin default/nobody").waitFor();
  await h.cli("rule", "rm", "nobody");
  await page.goto(`${h.url}/rules?rule=default/too-hot`);
  await region("Rule default/too-hot").waitFor();
});

test("it says why it did not act, and why it did", async () => {
  const evaluations = region("Rule default/too-hot").getByRole("table", { name: "Evaluations" });
  await h.post("default/lobby", { temperature: 21 });
  await evaluations.getByRole("row").filter({ hasText: "value = 21" }).getByText("does not hold").waitFor();
  await h.post("default/lobby", { temperature: 31 });
  await evaluations.getByRole("row").filter({ hasText: "value = 31" }).getByText(/^fired/).waitFor();
  await h.post("default/lobby", { temperature: 27 });
  await region("Rule default/too-hot").getByLabel("At present").getByText("holds, as before: until does not").waitFor();
  await region("Rule default/too-hot").getByRole("table", { name: "Runs" }).getByText("done", { exact: true }).first().waitFor();
  await picture(page, "rules");
});

test("its alarm comes by itself, and is shelved, acknowledged and cleared", async () => {
  await page.getByRole("navigation", { name: "Rooms beside Rules" }).getByRole("link", { name: "Alarms" }).click();
  await page.getByRole("button", { name: /it is 31/ }).click();
  const alarm = region("Alarm default/too-hot.lobby");
  await alarm.getByRole("button", { name: "Shelve" }).click();
  await page.getByRole("menuitem", { name: "For an hour" }).click();
  await alarm.getByRole("button", { name: "Take from the shelf" }).click();
  await alarm.getByRole("button", { name: "Shelve" }).waitFor();
  await alarm.getByRole("textbox", { name: "Note" }).fill("the window was open");
  await alarm.getByRole("button", { name: "Acknowledge" }).click();
  await alarm.getByRole("table", { name: "Changes" }).getByText("the window was open").waitFor();
  assert.equal((await json("alarm", "get", "too-hot.lobby")).alarm.acknowledged, true);
  await picture(page, "alarms");
  await alarm.getByRole("button", { name: "Clear" }).click();
  await region("Alarms").getByText("Nothing needs attention.").waitFor();
  await page.getByRole("button", { name: "Raise alarm" }).click();
  const form = page.getByRole("form", { name: "Raise an alarm" });
  await form.getByLabel("Name").fill("leak");
  await form.getByLabel("Text").fill("water in the cellar");
  await form.getByLabel("Severity").selectOption("critical");
  await form.getByRole("button", { name: "Raise" }).click();
  await region("Alarms").getByRole("button", { name: /water in the cellar/ }).waitFor();
  const leak = region("Alarm default/leak");
  await leak.getByRole("textbox", { name: "Assign to" }).fill("kim");
  await leak.getByRole("button", { name: "Assign" }).click();
  await leak.getByRole("table", { name: "Changes" }).getByText("to kim").waitFor();
  assert.equal((await json("alarm", "get", "leak")).alarm.assignedTo, "kim");
});

test("a rule rests, and is changed by somebody else meanwhile", async () => {
  await page.goto(`${h.url}/rules?rule=default/too-hot`);
  const detail = region("Rule default/too-hot");
  await detail.getByRole("button", { name: "Disable" }).click();
  await detail.getByRole("button", { name: "Enable" }).waitFor();
  assert.match(await h.cli("rule", "get", "too-hot"), /paused\s+yes/);
  await detail.getByRole("button", { name: "Edit" }).click();
  await text().waitFor();
  await h.cli("rule", "resume", "too-hot");
  await detail.getByRole("button", { name: "Disable" }).waitFor();
  await detail.getByRole("button", { name: "Save" }).click();
  await detail.getByRole("alert").waitFor();
  assert.doesNotMatch(await h.cli("rule", "get", "too-hot"), /paused\s+yes/);
  await detail.getByRole("button", { name: "Delete" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Delete rule" }).click();
  await region("Rules").getByText("None yet.").waitFor();
  assert.doesNotMatch(await h.cli("rule", "list"), /too-hot/);
});

test("one that leads to itself has stopped, as the list says", async () => {
  await writeFile(join(h.dir, "circle.yaml"), "rule: {id: circle, when: [{property: {of: {twins: [lobby]}, names: [fan]}}], each: true, then: [{set: {property: fan, expr: '!value'}}]}\n");
  await h.cli("apply", "-f", join(h.dir, "circle.yaml"));
  await h.cli("twin", "set", "lobby", "fan", "true");
  await page.goto(`${h.url}/rules`);
  const line = region("Rules").getByRole("button", { name: /circle/ });
  await line.getByText("stopped").waitFor();
  await line.click();
  await region("Rule default/circle").getByText("it leads to itself: rule/default/circle → rule/default/circle").first().waitFor();
  await h.cli("rule", "rm", "circle");
});

test("a rule is built by mouse, is the same as text and on the command line, and fires", async () => {
  await page.getByRole("button", { name: "New rule" }).click();
  const form = page.getByRole("form", { name: "New rule" });
  await form.getByRole("textbox", { name: "Name" }).fill("cool");
  await form.getByRole("combobox", { name: "When twin" }).fill("default/lobby");
  await form.getByRole("textbox", { name: "has a new value of" }).fill("temperature");
  await form.getByRole("textbox", { name: "If" }).fill("value > 25.0");
  const then = form.getByRole("group", { name: "Then 1" });
  await then.getByRole("combobox", { name: "Of twin" }).fill("default/lobby");
  await then.getByRole("textbox", { name: "Property" }).fill("fan");
  await then.getByRole("textbox", { name: "Value" }).fill("true");
  await picture(page, "rule-form");
  await page.getByText("Text", { exact: true }).click();
  assert.match(await text().inputValue(), /property: fan\n\s+value: true/);
  await page.getByText("Form", { exact: true }).click();
  await form.getByRole("button", { name: "Create" }).click();
  const detail = region("Rule default/cool");
  await detail.waitFor();
  const shown = parse(await detail.getByLabel("Text", { exact: true }).textContent());
  const { revision, updateBy, updateTime, ...stored } = parse(await h.cli("rule", "get", "cool", "-o", "yaml")).rule;
  assert.deepEqual(shown, stored);
  assert.deepEqual([stored.if, stored.then], ["value > 25.0", [{ set: { to: { twin: "default/lobby" }, property: "fan", value: true } }]]);
  await h.post("default/lobby", { temperature: 26 });
  await detail.getByRole("table", { name: "Runs" }).getByText("done", { exact: true }).first().waitFor();
  assert.equal((await json("twin", "get", "lobby")).state.properties.fan.value, true);
});

test("the test bench says what it would do, and a dry run when it would have", async () => {
  const detail = region("Rule default/cool");
  const bench = detail.getByRole("form", { name: "Test" });
  await bench.getByRole("textbox", { name: "Value" }).fill("20");
  await bench.getByRole("button", { name: "Test" }).click();
  await bench.getByRole("status").getByText("does not hold").waitFor();
  await bench.getByRole("textbox", { name: "Value" }).fill("30");
  await bench.getByRole("button", { name: "Test" }).click();
  await bench.getByRole("status").getByText("would set fan = true").waitFor();
  const dry = detail.getByRole("form", { name: "Dry run" });
  const firings = dry.getByRole("table", { name: "Firings" });
  // What was said a moment ago is in the history some seconds later.
  await until("it would have fired", async () => {
    await dry.getByRole("button", { name: "Dry run" }).click();
    await dry.getByText("Would have fired").waitFor();
    return (await firings.count()) > 0;
  });
  await firings.getByText("set fan = true").first().waitFor();
  await picture(page, "rule-dry-run");
});

test("a rule is made of a template", async () => {
  await page.getByRole("button", { name: "New rule" }).click();
  await page.getByText("Template", { exact: true }).click();
  const form = page.getByRole("form", { name: "Template" });
  await form.getByRole("combobox", { name: "Template" }).click();
  await page.getByRole("option", { name: "Frost" }).click();
  await form.getByRole("textbox", { name: "below", exact: true }).fill("cold");
  await form.getByRole("button", { name: "Fill in" }).click();
  await form.getByRole("alert").filter({ hasText: "no number" }).waitFor();
  await form.getByRole("textbox", { name: "below", exact: true }).fill("3");
  await form.getByRole("textbox", { name: "twin", exact: true }).fill("lobby");
  await form.getByRole("button", { name: "Fill in" }).click();
  await page.getByRole("button", { name: "Create" }).click();
  await region("Rule default/frost").waitFor();
  assert.match(await h.cli("rule", "get", "frost"), /value < 3\.0/);
});

test("a schedule says when it is due next", async () => {
  await page.getByRole("navigation", { name: "Rooms beside Rules" }).getByRole("link", { name: "Schedules" }).click();
  await page.getByRole("button", { name: "New schedule" }).click();
  await text().fill('{"id": "default/new-year", "timing": {"cron": "0 12 1 1 *", "zone": "UTC"}, "actions": [{"mqtt": {"topic": "year", "payload": "new"}}]}');
  await page.getByRole("button", { name: "Create" }).click();
  const schedule = region("Schedule default/new-year");
  const next = schedule.getByRole("list", { name: "Next" }).getByRole("listitem");
  await next.nth(9).waitFor();
  assert.equal(new Set((await next.allTextContents()).map((t) => /^0?1 Jan (\d{4})/.exec(t)?.[1])).size, 10, "ten years");
  await schedule.getByRole("button", { name: "Disable" }).click();
  await schedule.getByText("paused", { exact: true }).waitFor();
  assert.match(await h.cli("schedule", "get", "new-year", "-o", "json"), /"paused":\s*true/);
});

test("the timeline has when alarms were active, and the statistics how long it took", async () => {
  for (let i = 0; i < 2; i++) {
    await h.cli("alarm", "raise", "flood", "water in the lift", "--severity", "error", "--twin", "lobby");
    await h.cli("alarm", "ack", "flood");
    await h.cli("alarm", "clear", "flood");
  }
  await page.goto(`${h.url}/alarms?span=1h`);
  await page.getByRole("radiogroup", { name: "View" }).getByText("Timeline", { exact: true }).click();
  const lanes = region("Timeline").getByRole("list", { name: "Lanes" });
  const flood = lanes.getByRole("listitem").filter({ has: page.getByRole("link", { name: "flood", exact: true }) });
  await flood.getByRole("img", { name: /^error, raised .*acknowledged after .*cleared after/ }).nth(1).waitFor();
  await lanes.getByRole("img", { name: /critical.* active, water in the cellar/ }).waitFor();
  const over = await lanes.evaluate((list) => [...list.querySelectorAll(".past-track")].flatMap((track) => [...track.children].map((x) => x.getBoundingClientRect().right - track.getBoundingClientRect().right)).filter((px) => px > 0.5));
  assert.deepEqual(over, [], "nothing is drawn beyond the end of its lane");
  await picture(page, "alarms-timeline");
  await page.getByRole("radiogroup", { name: "View" }).getByText("Statistics", { exact: true }).click();
  const row = region("Statistics").getByRole("table", { name: "By alarm" }).getByRole("row").filter({ hasText: "flood" });
  await row.waitFor();
  assert.deepEqual((await row.getByRole("cell").allTextContents()).slice(0, 3).map((x) => x.trim()), ["default/flood", "2", "0"]);
  const stats = (await json("alarm", "stats", "--by", "twin")).groups.find((g) => g.group === "default/lobby");
  await region("Statistics").getByLabel("By", { exact: true }).selectOption("twin");
  const lobby = region("Statistics").getByRole("table", { name: "By twin" }).getByRole("row").filter({ hasText: "default/lobby" });
  await lobby.waitFor();
  assert.equal((await lobby.getByRole("cell").nth(1).textContent()).trim(), String(stats.raised));
  await picture(page, "alarms-statistics");
  await page.goto(`${h.url}/alarms?alarm=default/flood&all=yes`);
  await region("Alarm default/flood").getByRole("button", { name: "Delete" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Delete alarm" }).click();
  await region("Alarm default/flood").waitFor({ state: "detached" });
  assert.doesNotMatch(await h.cli("alarm", "list", "--all"), /flood/);
  assert.match(await h.cli("alarm", "history"), /flood/);
});

test("a calendar has what is due, what exceptions leave out, and the night when clocks are set", async () => {
  // The last Sunday of next year's March, when clocks are set, and the week after it.
  const day = (n) => new Date(Date.UTC(new Date().getFullYear() + 1, 2, n)).toISOString().slice(0, 10);
  const sunday = 31 - new Date(`${day(31)}T12:00:00Z`).getUTCDay();
  await h.cli("schedule", "put", "night-air", "--daily", "02:30", "--except", `${day(sunday - 2)}..${day(sunday - 1)}`, "--zone", "Europe/Berlin", "--mqtt", "air=on");
  await h.cli("schedule", "put", "poll", "--every", "10m", "--mqtt", "poll=now");
  await h.cli("schedule", "put", "weekly", "--daily", "08:00,17:30", "--weekdays", "mon,fri", "--zone", "Europe/Berlin", "--mqtt", "week=on");
  await page.goto(`${h.url}/schedules?view=month&day=${day(15)}&in=Europe/Berlin`);
  const month = region("Calendar").getByRole("table", { name: "Month" });
  await month.getByRole("button", { name: /^02:30 night-air, .*left out/ }).nth(1).waitFor();
  await month.getByRole("button", { name: /^03:30 night-air, .*the clocks skip 02:30/ }).waitFor();
  await month.getByText("clocks +1 h").waitFor();
  await month.getByRole("button", { name: /^00:00 poll ×12\+/ }).first().waitFor();
  await picture(page, "schedules-month");
  await month.getByRole("button", { name: `Week of ${day(sunday)}` }).click();
  const week = region("Calendar").getByRole("table", { name: "Week" });
  await week.getByRole("button", { name: /^02:30 night-air, .*left out/ }).nth(1).waitFor();
  await week.getByRole("button", { name: /^17:30 weekly/ }).nth(1).waitFor();
  await picture(page, "schedules-week");
  await week.getByRole("button", { name: /^08:00 weekly/ }).first().click();
  await region("Schedule default/weekly").getByRole("list", { name: "Next" }).waitFor();
  await region("Calendar").getByRole("button", { name: "After" }).click();
  await week.getByRole("button", { name: /night-air/ }).nth(6).waitFor();
});

test("a calendar has what was done", async () => {
  const at = new Date(Date.now() + 2000).toISOString();
  await h.cli("schedule", "put", "now", "--at", at, "--mqtt", "now=on");
  await page.goto(`${h.url}/schedules?view=week&in=UTC&day=${at.slice(0, 10)}`); // the week may end meanwhile
  await region("Calendar").getByRole("button", { name: /now, default\/now, done/ }).waitFor();
});

test("the browser's console is silent", () => assert.deepEqual(h.complaints, []));
