// The room History in the browser: two twins' properties in one chart, in steps and in another unit, beside the day before, with what
// else happened to them; and as files. The figures are compared with the command line's.
import assert from "node:assert/strict";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before } from "node:test";

import { picture, story } from "./browser.mjs";
import { house } from "./house.mjs";
import { until } from "./node.mjs";

let h, page;

const test = story(() => ({ page, complaints: h?.complaints, output: h?.node.output() }));

const model = {
  "@context": ["https://www.w3.org/2022/wot/td/v1.1", { pollux: "https://pollux.dev/ns#" }],
  "@type": "tm:ThingModel",
  title: "Room sensor",
  properties: { temperature: { type: "number", unit: "Cel", readOnly: true }, mode: { type: "string", readOnly: true } },
};

/** Two days of a sample each half an hour, the newest a minute ago: warm by day, and a day warmer than the one before. */
function past(mean) {
  const now = Date.now() - 60_000;
  return Array.from({ length: 96 }, (_, i) => {
    const time = now - (95 - i) * 1_800_000;
    const temperature = mean + (i < 48 ? 0 : 1.5) + 2.5 * Math.sin((i / 48) * 2 * Math.PI);
    return { data: { temperature: Number(temperature.toFixed(2)) }, time: new Date(time).toISOString(), historical: true };
  });
}

before(async () => {
  h = await house();
  page = h.page;
  await writeFile(join(h.dir, "room.json"), JSON.stringify(model));
  await h.cli("model", "create", "room", "--file", join(h.dir, "room.json"));
  for (const [twin, mean] of [["lobby", 20], ["lab", 22]]) {
    await h.cli("twin", "create", twin, "--model", "room");
    assert.equal((await h.post(`default/${twin}`, past(mean))).stored, 96);
  }
  await h.post("default/lobby", { mode: "party", temperature: 23 });
  await h.post("default/lab", { temperature: 24 });
});

after(() => h?.close());

const chart = () => page.getByRole("img", { name: "History" });
const points = async () => Number(await chart().getAttribute("data-points"));

async function add(twin) {
  const form = page.getByRole("form", { name: "Add a series" });
  await form.getByRole("combobox", { name: "Twin" }).fill(twin);
  await form.getByRole("button", { name: "Add" }).click();
  await page.getByRole("button", { name: `Remove default/${twin} temperature` }).waitFor();
}

async function choose(name, option) {
  await page.getByRole("combobox", { name, exact: true }).click();
  await page.getByRole("option", { name: option, exact: true }).click();
}

async function download(name) {
  const [file] = await Promise.all([page.waitForEvent("download"), page.getByRole("button", { name, exact: true }).click()]);
  const path = join(h.dir, file.suggestedFilename());
  await file.saveAs(path);
  return readFile(path, "utf8");
}

test("two series stand in one chart, in the steps of the command line", async () => {
  await page.keyboard.press("g");
  await page.keyboard.press("h");
  await add("lobby");
  await add("lab");
  await page.getByRole("radiogroup", { name: "Range" }).getByText("24 h", { exact: true }).click();
  await choose("Step", "1 h");
  await until("both lines are drawn", async () => (await points()) >= 2 * 23);
  const rows = (await download("CSV")).trim().split("\n");
  assert.equal(rows[0], "time,default/lobby temperature [Cel],default/lab temperature [Cel]");
  const { samples } = JSON.parse(await h.cli("twin", "history", "lobby", "temperature", "--since", "24h", "--step", "1h", "-o", "json"));
  assert.ok(Math.abs(rows.length - 1 - samples.length) <= 1, `${rows.length - 1} rows, ${samples.length} samples of the command line`);
});

test("what was compared with is drawn beside, and texts stand in the journal", async () => {
  const alone = await points();
  await choose("Compare with", "the day before");
  await until("twice as much is drawn", async () => (await points()) >= alone * 2 - 4);
  const entry = page.getByRole("table", { name: "Journal" }).getByRole("row").filter({ hasText: "mode" });
  await entry.getByText("party").waitFor();
  await picture(page, "history");
});

test("the address keeps the view, in another unit, too", async () => {
  await page.getByRole("textbox", { name: "Unit" }).fill("[degF]");
  await page.getByRole("textbox", { name: "Unit" }).press("Enter");
  await page.reload();
  await page.getByRole("button", { name: "Remove default/lab temperature" }).waitFor();
  await until("both lines are there again", async () => (await points()) >= 2 * 23);
  const lines = JSON.parse(await download("JSON"));
  assert.deepEqual(lines.map((l) => l.unit), Array(4).fill("[degF]"));
  assert.ok(lines.every((l) => l.samples.every(([, v]) => v === null || (v > 60 && v < 85))), "the values are in it");
  await page.getByRole("textbox", { name: "Unit" }).fill("kPa");
  await page.getByRole("textbox", { name: "Unit" }).press("Enter");
  await page.getByRole("list", { name: "Series" }).getByText(/kPa/).first().waitFor();
});


test("Retention says what is taken, what the rules are, and what a rule would delete", async () => {
  await h.cli("retention", "set", "event=30d", "samples/temperature=12h,5m:365d");
  await h.cli("retention", "quota", "twins=2");
  await page.getByRole("link", { name: "Retention", exact: true }).click();
  const rules = page.getByRole("region", { name: "Rules" });
  await rules.getByRole("row", { name: "samples temperature 12 h one of 5 min for 365 d" }).waitFor();
  await rules.getByText(/Would go now: \d+ samples of 2 series \(temperature \d+\)\./).waitFor();
  const takes = page.getByRole("region", { name: "What the project takes" });
  await takes.getByRole("row", { name: /Twins 2 2/ }).waitFor();
  await takes.getByRole("progressbar", { name: "Twins: 100 % of the quota" }).waitFor();
  const asking = page.getByRole("region", { name: "Ask first" });
  await asking.getByRole("textbox", { name: "Days" }).fill("1");
  await asking.getByRole("textbox", { name: "Name" }).fill("temperature");
  await asking.getByRole("button", { name: "Ask" }).click();
  await asking.getByText(/Would go now: 9\d samples of 2 series/).waitFor();
  await until("status tells of the quota", async () => (await h.cli("status")).includes("default: the project takes 2 twins of its quota of 2 twins"));
});

test("the browser's console is silent", () => assert.deepEqual(h.complaints, []));
