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
  const [ink, ground, line] = [colour("--text"), colour("--page"), colour("--line")];
  const inks = {'"#000000"': ink, '"white"': ground};
  const figure = JSON.parse(source.replaceAll(/"#000000"|"white"/g, (said) => JSON.stringify(inks[said])));
  const clear = {paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)"};
  const layout = {...figure.layout, ...clear, font: {...figure.layout.font, color: ink}};
  for (const name of Object.keys(layout).filter((one) => axis.test(one))) {
    const lines = {gridcolor: line, linecolor: line, zerolinecolor: line};
    layout[name] = {...lines, ...layout[name]};
  }
  const menu = {showactive: false, bgcolor: ground, bordercolor: line, font: {color: ink}}; // an active one is white
  layout.updatemenus = layout.updatemenus?.map((one) => ({...one, ...menu}));
  return {...figure, layout, config: {responsive: true, displaylogo: false}};
}

const figures = [...document.querySelectorAll(".plotly-figure")].map((place) => [place, place.textContent]);

async function draw() {
  for (const [place, source] of figures) {
    const figure = coloured(source);
    place.style.height = `${figure.layout.height ?? 450}px`;
    await Plotly.react(place, figure);
  }
}

await draw();
dark.addEventListener("change", draw);
