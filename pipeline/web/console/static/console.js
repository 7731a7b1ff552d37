// What every page does in a browser: times in the viewer's own zone. UTC stays on hover.
const local = new Intl.DateTimeFormat(undefined, {
  day: "numeric", month: "short", hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false,
});

function localise(root) {
  for (const time of root.querySelectorAll("time[data-local]")) {
    const at = new Date(time.dateTime);
    if (!Number.isNaN(at.getTime())) time.textContent = local.format(at);
  }
}

localise(document);
document.addEventListener("htmx:afterSwap", (event) => localise(event.detail.target));
