const packed = Uint8Array.from(atob(document.getElementById("plotly").textContent), (c) => c.charCodeAt(0));
const unpacked = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
const library = document.createElement("script");
library.textContent = await new Response(unpacked).text();
document.head.append(library);

const dark = matchMedia("(prefers-color-scheme: dark)");
const axis = /^[xyz]axis\d*$/;

/** A figure in the colours of the page: what is black on white is drawn in its ink on its ground. */
function coloured(source) {
  const own = getComputedStyle(document.documentElement), colour = (name) => own.getPropertyValue(name).trim();
  const [ink, ground, line, mark] = ["--text", "--page", "--line", "--mark"].map(colour);
  const inks = {'"#000000"': ink, '"white"': ground};
  const figure = JSON.parse(source.replaceAll(/"#000000"|"white"/g, (said) => JSON.stringify(inks[said])));
  const clear = {paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)"};
  const layout = {...figure.layout, ...clear, font: {...figure.layout.font, color: ink}};
  const lines = {gridcolor: line, linecolor: line};
  for (const name of Object.keys(layout).filter((one) => axis.test(one))) {
    layout[name] = {...lines, zerolinecolor: line, ...layout[name]};
  }
  for (const name of layout.ternary ? ["aaxis", "baxis", "caxis"] : []) {
    layout.ternary[name] = {...lines, linecolor: mark, ...layout.ternary[name]};
  }
  const menu = {showactive: false, bgcolor: ground, bordercolor: mark, font: {color: ink}}; // an active one is white
  layout.updatemenus = layout.updatemenus?.map((one) => ({...one, ...menu}));
  const rail = {bgcolor: ground, bordercolor: mark, tickcolor: ink, activebgcolor: mark};
  layout.sliders = layout.sliders?.map((one) => ({...one, ...rail}));
  return {...figure, layout, config: {responsive: true, displaylogo: false}};
}

const figures = [...document.querySelectorAll(".plotly-figure")].map((place) => [place, place.textContent]);

async function draw() {
  for (const [place, source] of figures) {
    const figure = coloured(source);
    place.style.height = `${figure.layout.height ?? 450}px`;
    place.style.minWidth = `${figure.layout.meta?.least ?? 0}px`; // wider than its box: that scrolls
    await Plotly.react(place, figure);
    place.dataset.drawn = "";
  }
}

await draw();
reach();
dark.addEventListener("change", draw);
