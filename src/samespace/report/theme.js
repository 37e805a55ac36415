
const root = document.documentElement, button = document.getElementById("theme");
const system = matchMedia("(prefers-color-scheme: dark)");
const dark = () => root.dataset.theme ? root.dataset.theme === "dark" : system.matches;
const label = () => { button.textContent = dark() ? "Light" : "Dark"; };
button.hidden = false;
button.onclick = () => { root.dataset.theme = dark() ? "light" : "dark"; label(); };
label();
