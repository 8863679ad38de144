// Mixed proxies themselves (demix_nb/packed.py): log Σ αᵢ pᵢ of every answer's token, a byte per component.

const TANGENTS = 12, STILL = 1e-4; // planes of a dragged score, and the share that the mixture may still move by

/** What one family scores, in place of a predicted surface: `tasks` with start, end, bytes, shift of their tokens. */
class Blend {
  constructor(levels, total, step, tasks, scores) {
    const relative = Float64Array.from({length: 256}, (_, level) => Math.exp(-((level * step) ** 2)));
    const rows = levels.length / total, centre = sum(scores) / scores.length;
    this.scale = Math.sqrt(sum(scores.map((score) => (score - centre) ** 2)) / scores.length);
    this.parts = tasks.map((task) => { // read at every move: a token's probabilities beside each other, looked up once
      const known = new Float64Array((task.end - task.start) * rows);
      for (let k = 0; k < known.length; k++) {
        known[k] = relative[levels[(k % rows) * total + task.start + Math.floor(k / rows)]];
      }
      return {known, shift: task.shift, by: task.bytes * Math.LN2 * tasks.length};
    });
  }

  mean(shares) {
    if (shares !== this.last) [this.last, this.score] = [shares, this.read(shares)]; // a move asks for it twice
    return this.score;
  }

  read(shares) {
    return sum(this.parts.map(({known, shift, by}) => -(shift + told(known, shares)) / by));
  }

  /** It is what is mixed, so nothing is open about it. */
  predict(shares) {
    return [this.mean(shares), 0];
  }

  /** How the mean rises with each share. */
  gradient(shares) {
    const slopes = new Array(shares.length).fill(0);
    for (const {known, by} of this.parts) rises(known, shares).forEach((rise, i) => { slopes[i] -= rise / by; });
    return slopes;
  }

  /** As drawn(), for what is dear to read and convex: λ on the tangent plane at the last mixture, until that stays. */
  drawn(shares, wanted, bounds) {
    const from = shares.map((share) => Math.max(share, FLOOR));
    let here = shares, gap = this.mean(shares) - wanted, [best, miss] = [here, Math.abs(gap)];
    for (let turn = 0; turn < TANGENTS; turn++) {
      const [at, rest, slopes] = [here, gap, this.gradient(here)];
      const plane = (there) => rest + sum(slopes.map((slope, i) => slope * (there[i] - at[i])));
      let tries = 0;
      const along = tilting(from, slopes, bounds, plane), more = () => tries++ < TRIES;
      [here] = root(along, slopes, from, plane(from), DRAWN * this.scale, more);
      gap = this.mean(here) - wanted;
      if (Math.abs(gap) < Math.max(miss, DRAWN * this.scale)) [best, miss] = [here, Math.abs(gap)];
      if (Math.max(...here.map((share, i) => Math.abs(share - at[i]))) < STILL) break;
    }
    return best;
  }
}

/** Σ log Σ αᵢ pᵢ over tokens: eight at a time, as logarithms are dear, and none gets lost. */
function told(known, shares) {
  const rows = shares.length;
  let nats = 0, product = 1;
  for (let k = 0, turn = 1; k < known.length; k += rows, turn++) {
    let mixed = 0;
    for (let i = 0; i < rows; i++) mixed += shares[i] * known[k + i];
    product *= mixed;
    if (turn % 8) continue;
    nats += Math.log(product);
    product = 1;
  }
  return nats + Math.log(product);
}

/** How that rises with each share. */
function rises(known, shares) {
  const rows = shares.length, slopes = new Float64Array(rows);
  for (let k = 0; k < known.length; k += rows) {
    let mixed = 0;
    for (let i = 0; i < rows; i++) mixed += shares[i] * known[k + i];
    for (let i = 0; i < rows; i++) slopes[i] += known[k + i] / mixed;
  }
  return slopes;
}

/** The families' blends, unpacked from the page. */
async function blends({tasks, among, exact}) {
  const packed = Uint8Array.from(atob(exact.levels), (letter) => letter.charCodeAt(0));
  const open = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  const levels = new Uint8Array(await new Response(open).arrayBuffer());
  return tasks.map((task, f) => new Blend(levels, exact.total, exact.step, task.parts, among.map((row) => row[f])));
}
