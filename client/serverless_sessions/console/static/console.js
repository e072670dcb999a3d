"use strict";
// Adds the viewer's time to each UTC time, and lets clocks and bars run down.
const local = new Intl.DateTimeFormat(undefined, { weekday: "short", day: "numeric", month: "short", hour: "2-digit", minute: "2-digit", second: "2-digit" });
if (new Date().getTimezoneOffset() !== 0) {
  for (const time of document.querySelectorAll("time")) {
    const mine = Object.assign(document.createElement("span"), { className: "mine" });
    mine.textContent = local.format(new Date(time.dateTime));
    time.before(mine, " ");
  }
}
function left(seconds) {
  const [d, h, m, s] = [Math.floor(seconds / 86400), Math.floor(seconds / 3600) % 24, Math.floor(seconds / 60) % 60, seconds % 60];
  return d ? `in ${d} d ${h} h` : h ? `in ${h} h ${m} min` : m ? `in ${m} min ${s} s` : `in ${s} s`;
}
function tick() {
  for (const clock of document.querySelectorAll("[data-until]")) {
    const seconds = Math.max(0, clock.dataset.until - Math.floor(Date.now() / 1000));
    if (clock.tagName === "PROGRESS") clock.value = seconds;
    else clock.textContent = seconds ? left(seconds) : "over";
  }
}
tick();
setInterval(tick, 1000);
if (document.querySelector("[data-reload]")) setTimeout(() => location.reload(), 1500);
