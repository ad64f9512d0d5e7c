// What the runner writes.

/** One library in one case: the time of each round, or why there is none. */
export interface PeerTimes {
  id: string;
  name: string;
  ms: number | null;
  rounds: number[];
  why: string | null;
}

export interface PeerRow {
  name: string;
  flops: number;
  date: string;
  libraries: PeerTimes[];
}
