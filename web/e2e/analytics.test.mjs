// The room Analytics in the browser: a detector is tried on what history has, made by the form, judges what comes, is changed and deleted; what
// it finds is compared with the command line's.
import assert from "node:assert/strict";
import { writeFile } from "node:fs/promises";
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
  properties: { temperature: { type: "number", readOnly: true } },
};

/** A day of a reading each five minutes, the newest a minute ago: warm by day, with a spike six hours ago. */
function past() {
  const now = Date.now() - 60_000;
  return Array.from({ length: 288 }, (_, i) => {
    const time = now - (287 - i) * 300_000;
    const temperature = 20 + Math.sin((i / 288) * 2 * Math.PI) + 0.1 * Math.sin(i * i) + (i === 216 ? 9 : 0);
    return { data: { temperature: Number(temperature.toFixed(2)) }, time: new Date(time).toISOString() };
  });
}

before(async () => {
  h = await house();
  page = h.page;
  await writeFile(join(h.dir, "room.json"), JSON.stringify(model));
  await h.cli("model", "create", "room", "--file", join(h.dir, "room.json"));
  await h.cli("twin", "create", "lab", "--model", "room");
  assert.equal((await h.post("default/lab", past())).stored, 288);
});

after(() => h?.close());

const tried = async () => JSON.parse(await h.cli("detector", "try", "--twin", "lab", "--property", "temperature", "--kind", "ewma", "-o", "json"));

test("a detector is tried on history before it is made", async () => {
  await until("history has the day", async () => (await tried()).readings === "288");
  const { anomalies } = await tried();
  assert.equal(anomalies.length, 1);
  await page.goto(`${h.url}/analytics`);
  await page.getByRole("button", { name: "New detector" }).click();
  const form = page.getByRole("form", { name: "Detector" });
  await form.getByLabel("Id").fill("spikes");
  await form.getByLabel("Property").fill("temperature");
  await form.getByLabel("Of model").fill("room");
  const trial = page.getByRole("region", { name: "Try on history" });
  await trial.getByRole("combobox", { name: "Twin to try" }).fill("lab");
  await trial.getByRole("button", { name: "Try", exact: true }).click();
  await trial.getByText("1 anomaly").waitFor();
  assert.equal(await trial.getByRole("list", { name: "Anomalies" }).getByRole("listitem").count(), 1);
  await trial.getByRole("img", { name: "Score over readings" }).waitFor();
  await picture(page, "analytics");
  await form.getByRole("button", { name: "Create" }).click();
  await page.getByRole("region", { name: "Detector default/spikes" }).getByText("temperature_ewma_…").waitFor();
});

test("history is asked by MetricsQL, and the answer is drawn", async () => {
  await page.goto(`${h.url}/analytics?show=metricsql`);
  const form = page.getByRole("form", { name: "MetricsQL" });
  await form.getByLabel("Question").fill("no such(");
  await form.getByRole("button", { name: "Ask" }).click();
  await form.getByRole("alert").waitFor();
  await form.getByLabel("Example").selectOption({ label: "How far from its mean, in deviations" });
  assert.match(await form.getByLabel("Question").inputValue(), /^zscore_over_time/);
  await form.getByText("7 d", { exact: true }).click();
  await form.getByRole("button", { name: "Ask" }).click();
  const answer = page.getByRole("region", { name: "MetricsQL" });
  await answer.getByRole("status").getByText("1 series").waitFor();
  await answer.getByText(/^lab temperature/).first().waitFor();
  await picture(page, "metricsql");
  await page.goto(`${h.url}/analytics?detector=default/spikes`);
});

test("what comes is judged, and the command line says the same", async () => {
  assert.equal((await h.post("default/lab", { temperature: 21 })).stored, 1);
  // It learns from what is recorded, beside the readings that come.
  await until("it has learnt", async () => Number(JSON.parse(await h.cli("detector", "get", "spikes", "--twin", "lab", "-o", "json")).readings) > 100);
  const [stored] = JSON.parse(await h.cli("detector", "list", "-o", "json")).detectors;
  assert.deepEqual([stored.kind, stored.of.model], ["DETECTOR_KIND_EWMA", "room"]);
});

test("a change that the node refuses says why, and a detector goes", async () => {
  const detail = page.getByRole("region", { name: "Detector default/spikes" });
  await detail.getByRole("button", { name: "Edit" }).click();
  await detail.getByLabel("Readings").fill("2");
  await detail.getByRole("button", { name: "Save" }).click();
  await detail.getByText(/2 is not between 4 and 10000/).waitFor();
  await detail.getByRole("button", { name: "Delete", exact: true }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Delete detector" }).click();
  await page.getByText("None yet.").waitFor();
  assert.deepEqual(JSON.parse(await h.cli("detector", "list", "-o", "json")), {});
});
