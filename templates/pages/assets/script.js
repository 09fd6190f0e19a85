// Live figures and the countdown. Every page is complete without this file.
"use strict";

const root = document.documentElement;
const set = (element, text) => {
  if (element.textContent === text) return;
  element.textContent = text;
  element.removeAttribute("data-changed");
  void element.offsetWidth; // restarts the animation
  element.setAttribute("data-changed", "");
};

// A form that someone has begun to fill in is never reloaded away, nor is the answer to one that was just sent.
let typed = false;
let leaving = false;
document.addEventListener("input", () => { typed = true; });
document.addEventListener("submit", () => { leaving = true; });
addEventListener("beforeunload", () => { leaving = true; });
addEventListener("pageshow", () => { leaving = false; });
const stale = () => {
  if (leaving) return;
  if (!typed) return location.reload();
  const notice = document.getElementById("stale");
  if (notice) notice.hidden = false;
};

// Countdown: the deadline is told as time left, so the two clocks need not agree.
for (const clock of document.querySelectorAll("[data-left]")) {
  const end = performance.now() + Number(clock.dataset.left) * 1000;
  const timer = setInterval(() => {
    const left = Math.max(0, Math.ceil((end - performance.now()) / 1000));
    clock.textContent = left >= 100 ? `${Math.floor(left / 60)}:${String(left % 60).padStart(2, "0")}` : `${left} s`;
    if (left === 0) {
      clearInterval(timer);
      setTimeout(stale, 2000);
    }
  }, 250);
}

// Live figures: the server sends {key: text} and each element that carries the key shows it.
const source = root.dataset.events && "EventSource" in window ? new EventSource(root.dataset.events) : null;
const marks = document.querySelectorAll(".live");
const live = (on) => marks.forEach((mark) => { mark.hidden = !on; });
if (source) {
  source.addEventListener("open", () => live(true));
  source.addEventListener("error", () => live(false));
  source.addEventListener("figures", (event) => {
    const figures = JSON.parse(event.data);
    for (const element of document.querySelectorAll("[data-live]")) {
      const text = figures[element.dataset.live];
      if (text !== undefined) set(element, text);
    }
    for (const line of document.querySelectorAll("[data-points]")) {
      const points = figures[line.dataset.points];
      if (points !== undefined) line.setAttribute("points", points);
    }
    for (const line of document.querySelectorAll("[data-path]")) {
      const path = figures[line.dataset.path];
      if (path !== undefined) line.setAttribute("d", path);
    }
    for (const badge of document.querySelectorAll("[data-tone-of]")) {
      const tone = figures[badge.dataset.toneOf];
      if (tone !== undefined) badge.dataset.tone = tone;
    }
    for (const bar of document.querySelectorAll("[data-width]")) {
      const width = figures[bar.dataset.width];
      if (width !== undefined) bar.setAttribute("width", width);
    }
  });
  // The state of the gate changed (a trial began or ended, the applier came or went): what the page says of it is old.
  source.addEventListener("state", (event) => {
    if (root.dataset.state !== JSON.parse(event.data)) stale();
  });
  addEventListener("pagehide", () => source.close());
}

// Editor: a problem's link puts the caret on its line, and the numbers go on as the text grows.
const text = document.querySelector(".editor textarea");
if (text) {
  const gutter = document.querySelector(".gutter ol");
  const grow = () => {
    const lines = text.value.split("\n").length;
    for (let n = gutter.children.length + 1; n <= lines + 20; n += 1) {
      gutter.append(Object.assign(document.createElement("li"), { textContent: String(n) }));
    }
    text.rows = lines + 2;
  };
  text.addEventListener("input", grow);
  document.addEventListener("click", (event) => {
    const link = event.target.closest('a[href^="#L"]');
    if (!link) return;
    const line = Number(link.hash.slice(2));
    const before = text.value.split("\n").slice(0, line - 1).join("\n").length + (line > 1 ? 1 : 0);
    text.focus();
    text.setSelectionRange(before, before + (text.value.split("\n")[line - 1] || "").length);
  });
  let saved = text.value;
  text.form.addEventListener("submit", () => { saved = text.value; });
  addEventListener("beforeunload", (event) => { if (text.value !== saved) event.preventDefault(); });
}
