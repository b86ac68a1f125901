// Asks for the page again, and puts in what has changed. Without it a reload does the same.
"use strict";
const live = document.getElementById("live");
const again = async () => {
  const now = document.getElementById("live");
  let wait = Number(now.dataset.again);
  try {
    const answer = await fetch(location.pathname, { cache: "no-store" });
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html").getElementById("live");
    if (answer.ok && fresh && fresh.innerHTML !== now.innerHTML) renew(now, fresh);
  } catch {
    wait *= 5; // the server is away; it may come back
  }
  setTimeout(again, wait);
};
// Keeps what did not change, so that whoever reads or has gone to a link with the keyboard is not moved.
const renew = (old, fresh) => {
  for (const name of fresh.getAttributeNames()) {
    if (old.getAttribute(name) !== fresh.getAttribute(name)) old.setAttribute(name, fresh.getAttribute(name));
  }
  const [mine, theirs] = [[...old.childNodes], [...fresh.childNodes]];
  const alike = mine.length === theirs.length && mine.every((one, at) => one.nodeName === theirs[at].nodeName);
  if (!alike) return old.replaceChildren(...theirs);
  mine.forEach((one, at) => {
    if (one.nodeType === Node.ELEMENT_NODE) renew(one, theirs[at]);
    else if (one.nodeValue !== theirs[at].nodeValue) one.nodeValue = theirs[at].nodeValue;
  });
};
if (live) setTimeout(again, Number(live.dataset.again));
