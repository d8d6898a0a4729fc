// A logic in the browser, from nothing to a house that acts by it: written, tried on what was recorded, deployed, seen to act, changed,
// and taken back. What it did is asked of the command line.
import assert from "node:assert/strict";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before } from "node:test";

import { picture, story } from "./browser.mjs";
import { house } from "./house.mjs";
import { until } from "./node.mjs";

let h, page;

const test = story(() => ({ page, complaints: h?.complaints, output: h?.node.output() }));

const model = (properties) => JSON.stringify({ "@context": "https://www.w3.org/2022/wot/td/v1.1", "@type": "tm:ThingModel", title: "Part", properties });

/** The light follows the door; messages about the door that say the same again are stopped. */
const porter = (version, light) => `export default logic({
  name: 'porter',
  version: '${version}',
  load(twin) { twin.other('door').subscribe('open'); },
  async changed(twin, { value }) {
    if (typeof value !== 'boolean') return;
    await twin.other('light').set('power', ${light});
    console.log('the door says', value);
  },
  run(message, context) {
    const seen = context.memory.twin;
    if (message.value === seen.last) return context.stop();
    seen.last = message.value;
    console.log('new:', message.value);
    return context.replace({ ...message, checked: true });
  },
});
`;

before(async () => {
  h = await house();
  page = h.page;
  await writeFile(join(h.dir, "door.json"), model({ open: { type: "boolean", readOnly: true } }));
  await writeFile(join(h.dir, "light.json"), model({ power: { type: "boolean", "pollux:virtual": true } }));
  for (const name of ["door", "light"]) {
    await h.cli("model", "create", name, "--file", join(h.dir, `${name}.json`));
    await h.cli("twin", "create", name, "--model", name);
  }
  await h.cli("topic", "create", "doors");
  await h.cli("topic", "route", "put", "doors", "--to", "doors", "--property", "open");
});

after(() => h?.close());

const region = (name) => page.getByRole("region", { name, exact: true });
const source = () => page.getByRole("textbox", { name: "Source" });
const tried = () => region("Tried");

/** The editor draws only the lines in sight, so the whole is written as a person pastes it. */
async function write(text) {
  await source().click();
  await page.keyboard.press("Control+a");
  await page.keyboard.insertText(text);
}

const open = (to) => h.post("default/door", { open: to });
const power = async () => JSON.parse(await h.cli("twin", "get", "light", "-o", "json")).state?.properties?.power?.value;

async function choose(label, option) {
  await page.getByRole("combobox", { name: label }).click();
  await page.getByRole("option", { name: option }).first().click();
}

test("a new logic begins with an example that runs, and a mistake is shown at its line", async () => {
  await page.getByRole("navigation", { name: "Rooms", exact: true }).getByRole("link", { name: "Logic" }).click();
  await page.getByRole("button", { name: "New logic" }).click();
  await page.getByLabel("Name").fill("porter");
  await page.getByRole("button", { name: "Begin" }).click();
  await source().waitFor();
  await choose("What it hears", /^changed/);
  await page.getByRole("button", { name: "Try", exact: true }).click();
  await tried().getByText("report busy = true").waitFor();
  await write(`const = 1;\n${porter("0.1.0", "value")}`);
  await page.getByRole("button", { name: "Try", exact: true }).click();
  const alert = page.getByRole("alert").filter({ hasText: ".js:1" }).first();
  await alert.waitFor();
  await alert.getByRole("button", { name: /Go to line 1/ }).click();
  await until("the cursor is at the mistake", async () => /const = 1/.test(await page.locator(".cm-activeLine").innerText()));
});

test("it is tried on a message of a topic: what it returns, remembers and logs; nothing is done", async () => {
  await open(true);
  await until("the topic has it", async () => /doors +1/.test((await h.cli("topic", "list")).replaceAll("default/", "")) || JSON.parse(await h.cli("topic", "get", "doors", "-o", "json")).state?.next_offset === "2");
  await write(porter("0.1.0", "value"));
  await choose("What it hears", /^run/);
  await choose("Message from", "a message of a topic");
  await choose("Topic", "default/doors");
  await choose("Which, the newest first", /open/);
  await page.getByRole("button", { name: "Try", exact: true }).click();
  await tried().getByText("porter 0.1.0 replaces it").waitFor();
  assert.match(await tried().getByLabel("Message that goes on").innerText(), /"checked": true/);
  assert.match(await tried().getByLabel("It would remember").innerText(), /"last": true/);
  await tried().getByText("new: true").waitFor();
  await page.getByLabel("What it remembers before").fill('{"twin": {"last": true}, "script": {}}');
  await page.getByRole("button", { name: "Try", exact: true }).click();
  await tried().getByText("porter 0.1.0 stops it").waitFor();
  await page.getByLabel("What it remembers before").fill("");
  await choose("What it hears", /^changed/);
  await page.getByLabel("Message", { exact: true }).fill('{"name": "door", "property": "open", "value": true}');
  await page.getByRole("button", { name: "Try", exact: true }).click();
  await tried().getByText("set default/light power = true").waitFor();
  assert.equal(await power(), undefined, "a try has no effect");
});

test("it is deployed, and acts", async () => {
  await page.getByRole("button", { name: "Deploy" }).click();
  await region("Logic default/porter").waitFor();
  await until("the light follows the door", async () => (await power()) === true);
  await open(false);
  await until("the light follows the door again", async () => (await power()) === false);
  await page.getByRole("log", { name: "Lines" }).getByText("the door says false").waitFor();
  assert.match(await h.cli("logic", "list"), /porter +porter@0\.1\.0/);
});

test("it is given to a route, which keeps it when something else of it is changed; the room counts what it says", async () => {
  const logic = page.url();
  await page.goto(`${h.url}/routes`);
  const line = page.getByRole("listitem", { name: "Route doors" });
  await line.getByRole("button", { name: "Edit doors" }).click();
  const form = page.getByRole("form", { name: "Route" });
  await form.getByRole("combobox", { name: "Through logic" }).fill("default/porter");
  await form.getByRole("button", { name: "Save" }).click();
  await line.getByRole("link", { name: "porter" }).waitFor();
  await line.getByRole("button", { name: "Edit doors" }).click();
  await form.getByRole("checkbox", { name: /stops here/ }).check();
  await form.getByRole("button", { name: "Save" }).click();
  await line.getByText("What matches stops here.").waitFor();
  const route = JSON.parse(await h.cli("topic", "route", "list", "-o", "json")).routes[0];
  assert.deepEqual([route.run, route.terminate], ["default/porter", true]);
  await page.goto(logic);
  await open(true);
  await until("the room has counted", async () => /Replaced\s*1/.test(await region("Logic default/porter").innerText()));
  await h.cli("logic", "run", "porter", "--twin", "door", "--message", '{"value": true}');
  await until("the room has counted", async () => /Stopped\s*1/.test(await region("Logic default/porter").innerText()));
});

test("a change is another version, and the way back leads to the one before", async () => {
  await write(porter("0.1.0", "!value"));
  await page.getByRole("button", { name: "Deploy" }).click();
  await page.getByRole("button", { name: "Make it version 0.1.1" }).click();
  await page.getByRole("button", { name: "Deploy" }).click();
  await until("the room shows it", async () => /Version\s*0\.1\.1/.test(await region("Logic default/porter").innerText()));
  await open(false);
  await until("the light is against the door", async () => (await power()) === true);
  await choose("What it hears", /^changed/);
  await choose("Message from", "a message of a topic");
  await choose("Topic", "default/doors");
  await choose("Which, the newest first", /open/);
  await page.getByRole("button", { name: "Try", exact: true }).click();
  await tried().getByText("set default/light power = true").waitFor();
  await picture(page, "logic");
  await page.getByRole("button", { name: "Roll back" }).click();
  await until("the room shows the version before", async () => /Version\s*0\.1\.0/.test(await region("Logic default/porter").innerText()));
  await until("its code is there", async () => (await source().innerText()).includes("version: '0.1.0'"));
  await open(true);
  await open(false);
  await until("the light follows the door", async () => (await power()) === false);
  assert.deepEqual(h.complaints, [], "the browser's console is silent");
});
