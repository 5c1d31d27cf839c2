"use strict";
// Puts the part of the page that changes anew every few seconds; without this script the page shows the same, once.
const PERIOD_MS = 10_000;
const PATIENCE_MS = 8_000;
const live = document.getElementById("live");
const told = document.getElementById("told");
let at = new Date();

function put(text) {
  const fresh = new DOMParser().parseFromString(text, "text/html");
  const focused = live.contains(document.activeElement) ? document.activeElement : null;
  const place = focused && [...live.querySelectorAll("a, [tabindex]")].indexOf(focused);
  const href = focused && focused.getAttribute("href");
  const scrolled = [...live.querySelectorAll(".scroll")].map((box) => box.scrollLeft);
  live.replaceChildren(...fresh.body.childNodes);
  live.querySelectorAll(".scroll").forEach((box, index) => { box.scrollLeft = scrolled[index] ?? 0; });
  if (focused) {
    const all = [...live.querySelectorAll("a, [tabindex]")];
    const again = (href && all.find((one) => one.getAttribute("href") === href)) || all[place];
    if (again) again.focus({ preventScroll: true });
  }
}

async function refresh() {
  if (document.hidden || !getSelection().isCollapsed) return;
  try {
    const answer = await fetch(location.href, {
      headers: { "X-Live": "1" }, cache: "no-store", signal: AbortSignal.timeout(PATIENCE_MS),
    });
    if (!answer.ok) throw new Error(`the hub answers ${answer.status}`);
    put(await answer.text());
    at = new Date();
    if (told.textContent) told.textContent = "";
  } catch {
    told.textContent = `No answer: this is as of ${at.toLocaleTimeString()}`;
  }
}

if (live) {
  setInterval(refresh, PERIOD_MS);
  document.addEventListener("visibilitychange", refresh);
}
