// Tenants and outside names, in the browser: a project is made, gets settings that hold, shows what it takes, and is deleted when nothing is in it;
// an alias is given, found, moved and taken. What the page did is compared with what the command line says of the same node.
import assert from "node:assert/strict";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before } from "node:test";

import { picture, story } from "./browser.mjs";
import { house } from "./house.mjs";
import { until } from "./node.mjs";

let h, page;

const test = story(() => ({ page, complaints: h?.complaints, output: h?.node.output() }));

const model = { "@context": ["https://www.w3.org/2022/wot/td/v1.1"], "@type": "tm:ThingModel", title: "Room", properties: { temperature: { type: "number" } } };

before(async () => {
  h = await house();
  page = h.page;
  await writeFile(join(h.dir, "room.json"), JSON.stringify(model));
});

after(() => h?.close());

const region = (name) => page.getByRole("region", { name, exact: true });
const rail = (name) => page.getByRole("navigation", { name: "Rooms", exact: true }).getByRole("link", { name, exact: true });
const json = async (...words) => JSON.parse(await h.cli(...words, "-o", "json"));

test("a project is made; the node says what is no name", async () => {
  await rail("Projects").click();
  await page.getByRole("button", { name: "New project" }).click();
  const form = page.getByRole("form", { name: "New project" });
  await form.getByRole("textbox", { name: "Name" }).fill("Grand Hotel");
  await form.getByRole("button", { name: "Create" }).click();
  await form.getByRole("alert").filter({ hasText: "is no project's name" }).waitFor();
  await form.getByRole("textbox", { name: "Name" }).fill("hotel");
  await form.getByRole("button", { name: "Create" }).click();
  await region("Project hotel").getByText("Nothing is in it yet.").waitFor();
  assert.equal((await json("project", "get", "hotel")).name, "hotel");
});

test("the overview tells what happened in any project", async () => {
  await h.cli("alarm", "raise", "hotel/leak", "water in the cellar", "--severity", "warning");
  await rail("Overview").click();
  const line = region("Lately").getByRole("row").filter({ hasText: "raised: water in the cellar" });
  await line.getByRole("link", { name: "leak" }).click();
  await page.waitForURL(/alarms\?alarm=hotel%2Fleak/);
  await h.cli("alarm", "rm", "hotel/leak");
  await rail("Projects").click();
  await page.getByText("hotel", { exact: true }).click();
});

test("its settings are written; what is wrong with them is said, and what the form has not stays", async () => {
  await h.cli("model", "create", "hotel/room", "--file", join(h.dir, "room.json"));
  await h.cli("ingest", "unknown", "provision", "--project", "hotel", "--rule", "network=lora model=room name=room-{value}");
  const it = region("Project hotel");
  await it.getByText("made twins by rules").waitFor();
  await it.getByRole("button", { name: "Edit" }).click();
  const form = page.getByRole("form", { name: "Settings of hotel" });
  const field = (name) => form.getByRole("textbox", { name, exact: true });
  await field("Twins").fill("10");
  await field("Journal").fill("1 GB");
  await field("As old as").fill("7d");
  await form.getByRole("button", { name: "Add a rule" }).click();
  await field("Property, rule 1").fill("temperature");
  await field("Kept for, rule 1").fill("7d");
  await field("Then one of, rule 1").fill("5min");
  await field("for, rule 1").fill("365d");
  await form.getByRole("button", { name: "Save" }).click();
  await form.getByRole("alert").filter({ hasText: "“1 GB” is no amount" }).waitFor();
  await field("Journal").fill("1GiB");
  await field("for, rule 1").fill("1d");
  await form.getByRole("button", { name: "Save" }).click();
  await form.getByRole("alert").filter({ hasText: "must be more than maxAge" }).waitFor();
  await field("for, rule 1").fill("365d");
  await picture(page, "projects-settings");
  await form.getByRole("button", { name: "Save" }).click();
  await form.waitFor({ state: "detached" });
  await it.getByText("1 rule", { exact: true }).waitFor();
  const { settings } = await json("project", "get", "hotel");
  assert.deepEqual([settings.maxAge, settings.quotas, settings.rules.length, settings.sampleRetention], [
    "604800s",
    { twins: "10", journalBytes: "1073741824" },
    1,
    [{ property: "temperature", maxAge: "604800s", downsample: "300s", downsampleMaxAge: "31536000s" }],
  ]);
});

test("what it takes stands against its quotas, and what is in it is a click away", async () => {
  for (let i = 1; i <= 9; i++) await h.cli("twin", "create", `hotel/room-${i}`, "--model", "room");
  await region("What it takes").getByRole("progressbar", { name: "Twins: 90 % of the quota" }).waitFor();
  const twins = region("Project hotel").locator("dl.facts > div").filter({ has: page.getByText("twin", { exact: true }) });
  await twins.getByRole("link", { name: "9", exact: true }).waitFor();
  await picture(page, "projects");
  await twins.getByRole("link").click();
  await region("Hits").getByText("hotel/room-9").waitFor();
  await page.goBack();
});

test("a rule for unknown senders is taken away, and nothing else with it", async () => {
  const it = region("Unknown senders from now on");
  // What is pressed next stands on what the change before left, however long that takes to be read.
  const slow = (route) => setTimeout(() => void route.continue().catch(() => undefined), 1000);
  await page.route("**/GetProjectSettings**", slow);
  await it.getByRole("combobox", { name: "Unknown senders" }).click();
  await page.getByRole("option", { name: "are refused" }).click();
  await until("the node refuses", async () => (await json("project", "get", "hotel")).settings.unknownSenders === "UNKNOWN_SENDERS_REFUSE");
  await it.getByRole("button", { name: "Remove rule 1" }).click();
  const left = await until("the rule is gone", async () => {
    const { settings } = await json("project", "get", "hotel");
    return settings.rules === undefined && settings;
  });
  await page.unroute("**/GetProjectSettings**", slow);
  assert.deepEqual([left.quotas.twins, left.sampleRetention.length, left.maxAge], ["10", 1, "604800s"]);
});

test("a twin is given an alias, and messages of that sender are the twin's", async () => {
  await page.getByRole("navigation", { name: "Rooms beside Projects" }).getByRole("link", { name: "Aliases" }).click();
  await region("Aliases").getByText("None yet.").waitFor();
  await page.getByRole("button", { name: "New alias" }).click();
  const form = page.getByRole("form", { name: "New alias" });
  await form.getByRole("textbox", { name: "Project" }).fill("hotel");
  await form.getByRole("textbox", { name: "Network" }).fill("lora");
  await form.getByRole("textbox", { name: "Key" }).fill("deveui");
  await form.getByRole("textbox", { name: "Value" }).fill("a84041");
  await form.getByRole("combobox", { name: "Twin" }).fill("hotel/room-0");
  await form.getByRole("button", { name: "Create" }).click();
  await form.getByRole("alert").filter({ hasText: "hotel/room-0" }).waitFor();
  await form.getByRole("combobox", { name: "Twin" }).fill("hotel/room-1");
  await form.getByRole("button", { name: "Create" }).click();
  await region("Alias lora/deveui/a84041").getByRole("link", { name: "hotel/room-1" }).waitFor();
  assert.equal((await h.post("hotel/lora/deveui/a84041", { temperature: 21 })).stored, 1);
  assert.match(await h.cli("twin", "get", "hotel/room-1"), /temperature\s+21/);
});

test("aliases are found by what is in them, by network and by twin; what others make shows", async () => {
  await h.cli("alias", "create", "lora/deveui/b7", "room-2", "--project", "hotel");
  await h.cli("alias", "create", "knx/address/1.1.5", "room-2", "--project", "hotel");
  const list = region("Aliases");
  const shows = (...want) =>
    until(`the list is ${want}`, async () => (await list.getByRole("listitem").locator("b").allTextContents()).join() === want.join());
  await shows("1.1.5", "a84041", "b7");
  await list.getByRole("textbox", { name: "Find an alias" }).fill("A84");
  await shows("a84041");
  await list.getByRole("textbox", { name: "Find an alias" }).fill("");
  await list.getByRole("combobox", { name: "Project" }).fill("hotel");
  await list.getByRole("textbox", { name: "Network" }).fill("lora");
  await shows("a84041", "b7");
  await list.getByRole("textbox", { name: "Network" }).fill("");
  await list.getByRole("combobox", { name: "Of twin" }).fill("hotel/room-2");
  await shows("1.1.5", "b7");
  assert.equal((await json("alias", "list", "--project", "hotel", "--twin", "room-2")).aliases.length, 2);
  assert.match(await h.cli("alias", "list", "--project", "hotel", "--text", "A84"), /lora\s+deveui\s+a84041\s+hotel\/room-1/);
});

test("an alias goes to another twin, and is taken away", async () => {
  await region("Aliases").getByRole("button", { name: /b7/ }).click();
  const it = region("Alias lora/deveui/b7");
  await it.getByRole("button", { name: "Give to another twin" }).click();
  await it.getByRole("combobox", { name: "Twin" }).fill("hotel/room-3");
  await it.getByRole("button", { name: "Give", exact: true }).click();
  await until("the node knows", async () => (await json("alias", "get", "lora/deveui/b7", "--project", "hotel")).twin === "hotel/room-3");
  await region("Aliases").getByRole("combobox", { name: "Of twin" }).fill("");
  await it.getByRole("link", { name: "hotel/room-3" }).waitFor();
  await page.keyboard.press("Escape");
  await picture(page, "aliases");
  await it.getByRole("button", { name: "Delete" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Delete alias" }).click();
  await it.waitFor({ state: "detached" });
  assert.deepEqual((await json("alias", "list", "--project", "hotel")).aliases.map((m) => m.alias.value), ["1.1.5", "a84041"]);
});

test("a project that something is in stays; an empty one goes", async () => {
  await rail("Projects").click();
  await page.getByRole("button", { name: /hotel/ }).first().click();
  await region("Project hotel").getByRole("button", { name: "Delete" }).click();
  const dialog = page.getByRole("dialog");
  await dialog.getByRole("button", { name: "Delete project" }).click();
  await dialog.getByRole("alert").filter({ hasText: /twin \(9\)/ }).waitFor();
  await dialog.getByRole("button", { name: "Keep it" }).click();
  await h.cli("project", "create", "empty");
  await page.getByRole("button", { name: /empty/ }).click();
  await region("Project empty").getByRole("button", { name: "Delete" }).click();
  await dialog.getByRole("button", { name: "Delete project" }).click();
  await region("Project empty").waitFor({ state: "detached" });
  assert.ok(!(await json("project", "list")).projects.some((p) => p.name === "empty"));
  assert.deepEqual(h.complaints, []);
});
