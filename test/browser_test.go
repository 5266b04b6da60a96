package test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"html"
	"image"
	"image/color"
	"image/png"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// screenshotsVariable names a folder in which the screenshots stay.
const screenshotsVariable = "TLSPROXY_SCREENSHOTS"

// look is how a browser shows a page.
type look struct {
	name   string
	width  int
	height int
	scheme string // as Chromium calls it: 0 is dark, 1 light
}

func (l look) dark() bool { return l.scheme == "0" }

// chromium runs the browser once, and returns what it printed.
func chromium(t testing.TB, l look, arguments ...string) string {
	t.Helper()
	r := runProgram(t, "chromium", append([]string{
		"--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars", "--log-level=3",
		"--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-extensions",
		"--user-data-dir=" + t.TempDir(), "--timeout=20000",
		"--blink-settings=preferredColorScheme=" + l.scheme,
		fmt.Sprintf("--window-size=%d,%d", l.width, l.height),
	}, arguments...)...)
	r.requireCode(t, 0)
	return r.output
}

// screenshot shows a page and returns the picture.
func screenshot(t testing.TB, l look, address string) image.Image {
	t.Helper()
	dir := os.Getenv(screenshotsVariable)
	if dir == "" {
		dir = t.TempDir()
	}
	file, err := filepath.Abs(filepath.Join(dir, l.name+".png"))
	if err != nil {
		t.Fatal(err)
	}
	chromium(t, l, "--screenshot="+file, address)
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	picture, err := png.Decode(bytes.NewReader(data))
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	return picture
}

// brightness is that of the middle pixel in most of a picture's rows, from 0
// to 255: that of the background.
func brightness(picture image.Image) uint8 {
	var rows [256]int
	most := uint8(0)
	for y := picture.Bounds().Min.Y; y < picture.Bounds().Max.Y; y++ {
		level := color.GrayModel.Convert(picture.At(picture.Bounds().Min.X+3, y)).(color.Gray).Y
		if rows[level]++; rows[level] > rows[most] {
			most = level
		}
	}
	return most
}

// measured is what a script finds out about a page in the browser.
type measured struct {
	Dark           bool     // the page is asked for its dark colours
	Width, Content float64  // of the window, and of what would have to be scrolled to
	Outside        []string // elements that reach out of the window
	Scripts        int      // elements that a page without scripts has none of, but for the measuring one
	Rows           int      // of tables
	Contrast       float64  // the least of text to its background (WCAG 2.2 section 1.4.3)
	Faintest       string   // the text that has it
}

// measure asks the browser for the layout of the page at the admin address. The
// page has no script and lets nobody add one or frame it; so a server in between
// adds one, takes the policy away, and frames the page, as the browser's own
// window is never narrower than 500 pixels.
func measure(t testing.TB, l look, admin string) measured {
	t.Helper()
	const mark = `<output id="measured">`
	script, err := os.ReadFile(filepath.Join("testdata", "measure.js"))
	if err != nil {
		t.Fatal(err)
	}
	page := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: admin})
	page.ModifyResponse = func(r *http.Response) error {
		text, err := io.ReadAll(r.Body)
		if err != nil {
			return err
		}
		text = bytes.Replace(text, []byte("</body>"), []byte("<script>"+string(script)+"</script></body>"), 1)
		r.Body = io.NopCloser(bytes.NewReader(text))
		r.Header.Del("Content-Security-Policy")
		r.Header.Del("X-Frame-Options")
		r.Header.Del("Content-Length")
		r.ContentLength = int64(len(text))
		return nil
	}
	mux := http.NewServeMux()
	mux.Handle("/", page)
	mux.HandleFunc("/frame", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprintf(w, `<!doctype html><html style="color-scheme: light dark">%s</output><iframe src="/" width="%d" height="%d"></iframe>`, mark, l.width, l.height)
	})
	server := httptest.NewServer(mux)
	defer server.Close()
	dom := chromium(t, l, "--dump-dom", server.URL+"/frame")
	_, text, _ := strings.Cut(dom, mark)
	text, _, _ = strings.Cut(text, "</output>")
	var m measured
	if err := json.Unmarshal([]byte(html.UnescapeString(text)), &m); err != nil {
		t.Fatalf("measuring the page: %v in %q of\n%s", err, text, tail(dom, 20))
	}
	return m
}
