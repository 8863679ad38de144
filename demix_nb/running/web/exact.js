// Mixed proxies themselves (demix_nb/packed.py): log Σ αᵢ pᵢ of every answer's token, a byte per component.

/** What one family scores, in place of a predicted surface: `tasks` with start, end, bytes, shift of their tokens. */
class Blend {
  close = 5e-4; // of a standard deviation: what a dragged score may miss by, as each try reads every token
  still = 2e-3; // of share: what the mixture may still move by
  tries = 30;

  constructor(levels, total, step, tasks, scores) {
    Object.assign(this, {levels, total, tasks});
    this.relative = Float64Array.from({length: 256}, (_, level) => Math.exp(-((level * step) ** 2)));
    const centre = sum(scores) / scores.length;
    this.scale = Math.sqrt(sum(scores.map((score) => (score - centre) ** 2)) / scores.length);
  }

  /** Σ αᵢ pᵢ of a task's tokens, each relative to its likeliest component. */
  mixed(shares, {start, end}) {
    const {levels, relative} = this, told = new Float64Array(256), found = new Float64Array(end - start);
    shares.forEach((share, i) => {
      const from = i * this.total + start;
      for (let level = 0; level < 256; level++) told[level] = share * relative[level];
      if (share > 0) for (let t = 0; t < found.length; t++) found[t] += told[levels[from + t]];
    });
    return found;
  }

  mean(shares) {
    if (shares !== this.last) [this.last, this.found] = [shares, this.read(shares)]; // a move asks for it twice
    return this.found;
  }

  read(shares) {
    return sum(this.tasks.map((task) => {
      const found = this.mixed(shares, task);
      let nats = task.shift;
      for (let t = 0; t < found.length;) { // of a few tokens together: logarithms are the dear part, and none gets lost
        let product = 1;
        for (const stop = Math.min(t + 8, found.length); t < stop; t++) product *= found[t];
        nats += Math.log(product);
      }
      return -nats / (task.bytes * Math.LN2);
    })) / this.tasks.length;
  }

  /** It is what is mixed, so nothing is open about it. */
  predict(shares) {
    return [this.mean(shares), 0];
  }

  /** How the mean rises with each share. */
  gradient(shares) {
    const {levels, relative} = this, slopes = new Array(shares.length).fill(0);
    for (const task of this.tasks) {
      const found = this.mixed(shares, task).map((value) => 1 / value), by = task.bytes * Math.LN2 * this.tasks.length;
      slopes.forEach((_, i) => {
        const from = i * this.total + task.start;
        let own = 0;
        for (let t = 0; t < found.length; t++) own += relative[levels[from + t]] * found[t];
        slopes[i] -= own / by;
      });
    }
    return slopes;
  }
}

/** The families' blends, unpacked from the page. */
async function blends({tasks, among, exact}) {
  const packed = Uint8Array.from(atob(exact.levels), (letter) => letter.charCodeAt(0));
  const open = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  const levels = new Uint8Array(await new Response(open).arrayBuffer());
  return tasks.map((task, f) => new Blend(levels, exact.total, exact.step, task.parts, among.map((row) => row[f])));
}
