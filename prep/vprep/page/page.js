"use strict";
// What every page does: the switch of light and dark, and films that play only while they are seen.
// Text of files is only ever set by textContent, never as markup.

const page = {
  // The JSON that stands in the page under this identifier, or null.
  data(identifier) {
    const element = document.getElementById(identifier);
    return element ? JSON.parse(element.text) : null;
  },

  // An element with text; further entries of `attributes` are attributes.
  make(name, text, attributes = {}) {
    const element = document.createElement(name);
    if (text) element.textContent = text;
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    return element;
  },
};

page.theme = (() => {
  const root = document.documentElement;
  const button = document.getElementById("theme");
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : dark.matches);
  const show = () => { 
    button.textContent = isDark() ? "Light" : "Dark";
    button.setAttribute("aria-label", `${button.textContent} colours`);
  };
  button.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    show();
  });
  dark.addEventListener("change", show);
  show();
  document.getElementById("switches").hidden = false;
  root.dataset.scripts = "";
  return { isDark };
})();

// An image with data-film="3" shows the fourth of the films in the page: animated WebP in base64, each stored once.
page.films = (() => {
  const films = page.data("film-data") || [];
  const stills = new Map();
  const button = document.getElementById("films");
  let playing = !matchMedia("(prefers-reduced-motion: reduce)").matches;

  // The first picture of an animated WebP, as a WebP of its own: the image data of the first ANMF chunk.
  function still(number) {
    if (!stills.has(number)) {
      const bytes = atob(films[number]);
      const length = (at) => [3, 2, 1, 0].reduce((sum, place) => sum * 256 + bytes.charCodeAt(at + place), 0);
      let at = 12;
      while (at < bytes.length && bytes.substr(at, 4) !== "ANMF") at += 8 + length(at + 4) + (length(at + 4) & 1);
      const image = bytes.slice(at + 24, at + 8 + length(at + 4));
      const size = image.length + 4;
      const head = [0, 8, 16, 24].map((shift) => String.fromCharCode((size >> shift) & 255)).join("");
      stills.set(number, at < bytes.length ? btoa(`RIFF${head}WEBP${image}`) : films[number]);
    }
    return stills.get(number);
  }

  function show(image, moves) {
    const number = Number(image.dataset.film);
    if (!(number in films)) return;
    const wanted = `${number} ${moves ? "moves" : "stands"}`;
    if (image.dataset.shown === wanted) return;
    image.dataset.shown = wanted;
    image.src = `data:image/webp;base64,${moves ? films[number] : still(number)}`;
  }

  // Whether the pointer or the focus is on a film, or on the part of the page that plays with it.
  function isHeld(image) {
    const part = image.closest("[data-plays]") || image;
    return part.matches(":hover, :focus-within");
  }

  const seen = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) {
      target.dataset.seen = isIntersecting ? "yes" : "";
      if (isIntersecting || target.dataset.shown) show(target, isIntersecting && (playing || isHeld(target)));
    }
  }, { rootMargin: "100px" });

  // Of films that stand, the one under the pointer or with the focus moves.
  function alone(event, moves) {
    const found = event.target.closest && event.target.closest("[data-plays], img[data-film]");
    if (!found || playing) return;
    const images = found.matches("img") ? [found] : found.querySelectorAll("img[data-film]");
    for (const image of images) show(image, moves);
  }

  function watch(within = document) {
    for (const image of within.querySelectorAll("img[data-film]")) seen.observe(image);
  }

  function label() {
    if (!button) return;
    button.textContent = playing ? "Pause" : "Play";
    button.setAttribute("aria-label", `${button.textContent} pictures`);
  }

  // On paper, every film is its first picture.
  addEventListener("beforeprint", () => {
    for (const image of document.querySelectorAll("img[data-film]")) show(image, false);
  });
  for (const name of ["mouseover", "focusin"]) document.addEventListener(name, (event) => alone(event, true));
  for (const name of ["mouseout", "focusout"]) document.addEventListener(name, (event) => alone(event, false));
  if (button) {
    button.addEventListener("click", () => {
      playing = !playing;
      label();
      for (const image of document.querySelectorAll('img[data-seen="yes"]')) show(image, playing);
    });
  }
  label();
  watch();
  return { watch, count: films.length };
})();
