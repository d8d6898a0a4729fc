// Search in the browser: Ctrl-K from anywhere, hits with each letter, narrowed by a facet and by an expression, and a hit opened.
import assert from "node:assert/strict";
import { after, before } from "node:test";

import { picture, story } from "./browser.mjs";
import { house } from "./house.mjs";
import { until } from "./node.mjs";

let h;

const test = story(() => ({ page: h?.page, complaints: h?.complaints, output: h?.node.output() }));

before(async () => {
  h = await house();
  await h.cli("zone", "put", "hall", "--title", "Great Hall");
  const thing = { "@context": "https://www.w3.org/2022/wot/td/v1.1", "@type": "tm:ThingModel", title: "Ceiling Lamp", properties: { power: { type: "string" } } };
  const answer = await fetch(`${h.url}/pollux.v1.ModelService/CreateModel`, {
    method: "POST",
    headers: { Authorization: `Bearer ${h.key}`, "Content-Type": "application/json" },
    body: JSON.stringify({ model: { id: "lamp", thingJson: JSON.stringify(thing) } }),
  });
  assert.equal(answer.status, 200, await answer.text());
  for (const name of ["north", "south"]) await h.cli("twin", "create", name, "--model", "lamp", ...(name === "north" ? ["--zone", "hall"] : []));
  await h.post("default/north", { power: "on" });
  await h.post("default/south", { power: "off" });
});

after(() => h?.close());

const hits = async () => (await h.page.getByRole("region", { name: "Hits" }).locator("code").allTextContents()).sort().join(" ");
const shows = (want) => until(`hits are ${want}`, async () => (await hits()) === want);

test("what is typed is found, by name and by the model's title", async () => {
  await h.page.keyboard.press("Control+k");
  const box = h.page.getByRole("textbox", { name: "Words" });
  await box.fill("ceil");
  await shows("default/lamp default/north default/south");
  await box.fill("nort");
  await shows("default/north");
  await box.fill("hall");
  await shows("default/hall default/north");
  await picture(h.page, "search");
});

test("what is made meanwhile is found, too", async () => {
  await h.page.getByRole("textbox", { name: "Words" }).fill("cellar");
  await shows("");
  await h.cli("zone", "put", "cellar");
  await shows("default/cellar");
  await h.cli("zone", "rm", "cellar");
});

test("facets and expressions narrow it, and the address keeps them", async () => {
  const { page } = h;
  await page.getByRole("textbox", { name: "Words" }).fill("lamp");
  await page.getByRole("checkbox", { name: "kind twin" }).check();
  await shows("default/north default/south");
  await page.getByRole("textbox", { name: "Where" }).fill('twin.properties.power == "off"');
  await shows("default/south");
  assert.match(page.url(), /facet=kind%3Atwin/);
  await page.reload();
  await shows("default/south");
  await page.getByRole("textbox", { name: "Where" }).fill("twin.nmae == 1");
  await page.getByText("did you mean name?").waitFor();
  await page.getByRole("textbox", { name: "Where" }).fill("");
  await shows("default/north default/south");
  await page.getByRole("link", { name: /default\/south/ }).click();
  await page.getByRole("heading", { name: "south" }).waitFor();
});

test("in a narrow window hits are in sight beside facets, long titles keep within it, and the room's own place is in the bar", async () => {
  const { page } = h;
  await h.cli("zone", "put", "tower", "--title", "Donaudampfschifffahrtsgesellschaft".repeat(8));
  await page.setViewportSize({ width: 390, height: 844 });
  await page.goto(`${h.url}/search`);
  const hit = page.getByRole("link", { name: /default\/tower/ });
  await hit.waitFor();
  const list = await page.getByRole("region", { name: "Hits" }).boundingBox();
  assert.ok(list.y < 500, `the hits begin at ${list.y}`);
  for (const part of await hit.locator("> *").all()) {
    const box = await part.boundingBox();
    assert.ok(!box || box.x + box.width <= 390, `a part of a hit ends at ${box?.x + box?.width}`);
  }
  await page.goto(`${h.url}/projects`);
  const place = page.getByRole("navigation", { name: "Rooms", exact: true }).getByRole("link", { name: "Projects" });
  await until("the place is in sight", async () => {
    const box = await place.boundingBox();
    return box && box.x >= 0 && box.x + box.width <= 390;
  });
});
