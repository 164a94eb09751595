// The choice of a class, and the player. Text of files is only ever set by textContent and as attributes.

(() => {
  const films = page.data("film-data") || [];
  const choice = document.getElementById("class");
  const sheets = [...document.querySelectorAll(".sheet")];
  const player = document.getElementById("player");
  const part = (name) => document.getElementById(`player-${name}`);
  let shown = null;

  choice.closest("p").hidden = false;
  choice.addEventListener("change", () => {
    for (const sheet of sheets) sheet.hidden = choice.value !== "" && sheet.dataset.class !== choice.value;
  });

  // The videos that the choice leaves, in the order of the page.
  const videos = () => [...document.querySelectorAll(".sheet:not([hidden]) .video")];

  function show(button) {
    const image = button.querySelector("img");
    const film = part("film");
    shown = button;
    film.src = `data:image/webp;base64,${films[Number(image.dataset.film)]}`;
    film.alt = button.getAttribute("aria-label");
    part("key").textContent = button.dataset.key;
    for (const name of ["about", "size", "source"]) part(name).textContent = button.dataset[name];
    if (!player.open) player.showModal();
  }

  function step(by) {
    const all = videos();
    show(all[(all.indexOf(shown) + by + all.length) % all.length]);
  }

  document.addEventListener("click", (event) => {
    const button = event.target.closest(".video");
    if (button) show(button);
  });
  part("previous").addEventListener("click", () => step(-1));
  part("next").addEventListener("click", () => step(1));
  part("close").addEventListener("click", () => player.close());
  player.addEventListener("keydown", (event) => {
    if (event.key === "ArrowLeft") step(-1);
    if (event.key === "ArrowRight") step(1);
  });
  player.addEventListener("close", () => shown.focus());
})();
