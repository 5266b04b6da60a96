// Measures the page that it is put into, for the one that frames it; see browser_test.go.
const root = document.documentElement;
const name = e => e.tagName.toLowerCase() + (e.className.baseVal ?? (e.className && "." + e.className)) + " " + e.textContent.trim().slice(0, 40);
const light = ([r, g, b]) => [r, g, b].map(c => c / 255).map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
	.reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
const rgba = text => text.match(/[\d.]+/g).map(Number);
const background = e => {
	for (; e; e = e.parentElement) {
		const color = rgba(getComputedStyle(e).backgroundColor);
		if (color[3] !== 0) return color;
	}
	return [255, 255, 255];
};
const result = {
	dark: matchMedia("(prefers-color-scheme: dark)").matches,
	width: innerWidth,
	content: Math.max(root.scrollWidth, document.body.scrollWidth),
	outside: [],
	scripts: document.querySelectorAll("script, img, iframe, object, embed, link:not([rel=stylesheet]), [onclick], [onerror], [onload]").length - 1,
	rows: document.querySelectorAll("tbody tr").length,
	contrast: 21,
	faintest: "",
};
for (const e of document.body.querySelectorAll("*")) {
	const box = e.getBoundingClientRect();
	if (e.closest(".skip, thead, script") || box.width === 0) continue;
	if (box.right > innerWidth + 0.5 || box.left < -0.5 || e.scrollWidth > e.clientWidth + 1 && e.clientWidth > 0 && e.tagName !== "SELECT") result.outside.push(name(e));
	const own = [...e.childNodes].some(n => n.nodeType === Node.TEXT_NODE && n.textContent.trim());
	if (!own || e.tagName === "OPTION") continue;
	const pair = [light(rgba(getComputedStyle(e).color)), light(background(e))].sort((a, b) => b - a);
	const contrast = (pair[0] + 0.05) / (pair[1] + 0.05);
	if (contrast < result.contrast) [result.contrast, result.faintest] = [contrast, name(e)];
}
parent.document.getElementById("measured").textContent = JSON.stringify(result);
